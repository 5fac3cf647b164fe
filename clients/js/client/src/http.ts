// Requests with a token, and what their answers mean.
import { StreamllError, type ErrorCode } from "./errors.js";

/** A token, or who is asked for one: for the first, and for another one where the server refuses `refused` ("" if it got none). */
export type Token = string | ((refused: string | undefined) => string | null | undefined | Promise<string | null | undefined>);

export interface HttpOptions {
  token?: Token | undefined;
  /** Sent with every HTTP request; a WebSocket of a browser cannot have any. */
  headers?: Readonly<Record<string, string>> | undefined;
  fetch?: typeof fetch | undefined;
}

export const JSON_BODY = { "content-type": "application/json" };

/** Whether it is worth coming back with the same request. */
export const passes = (status: number) => status === 408 || status === 429 || status >= 500;

export class Http {
  token: string | undefined;
  private readonly ask: ((refused: string | undefined) => unknown) | undefined;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly fetcher: typeof fetch;

  constructor({ token, headers = {}, fetch: fetcher = (...given) => fetch(...given) }: HttpOptions) {
    this.token = typeof token === "string" ? token : undefined;
    this.ask = typeof token === "function" ? token : undefined;
    this.headers = Object.fromEntries(new Headers(headers)); // names in lower case, as ours are
    this.fetcher = fetcher;
  }

  /** The token to begin with, where somebody has to be asked for it. */
  async ready(): Promise<void> {
    if (this.token === undefined && this.ask) this.token = ((await this.ask(undefined)) as string) || undefined;
  }

  /** Any answer but 401. */
  async fetch(url: URL, init: RequestInit = {}): Promise<Response> {
    await this.ready();
    for (;;) {
      const sent = this.token, headers: Record<string, string> = { ...this.headers, ...(init.headers as Record<string, string>) };
      if (sent) headers.authorization = `Bearer ${sent}`;
      const answer = await this.fetcher(url, { cache: "no-store", ...init, headers });
      if (answer.status !== 401) return answer;
      await answer.body?.cancel();
      if (sent !== this.token) continue; // another request has asked meanwhile
      const other = (await this.ask?.(sent ?? "")) as string | null | undefined;
      if (!other || other === sent) throw new StreamllError("unauthorized", sent ? "the server does not accept the token" : "the server needs a token", { status: 401 });
      this.token = other;
    }
  }

  /** An answer of 2xx, or an error that says what is wrong; `codes`: what statuses mean here. */
  async ok(url: URL, init?: RequestInit, codes?: Record<number, ErrorCode>): Promise<Response> {
    const answer = await this.fetch(url, init);
    if (!answer.ok) throw await refusal(answer, codes);
    return answer;
  }
}

async function refusal(answer: Response, more?: Record<number, ErrorCode>): Promise<StreamllError> {
  const { status } = answer, codes: Record<number, ErrorCode> = { 404: "not_found", 429: "busy", ...more };
  const body = await answer.json().catch(() => null);
  const said = body?.error?.message ?? body?.error ?? body?.message ?? body?.detail;
  const seconds = Number(answer.headers.get("retry-after") ?? NaN), message = typeof said === "string" ? said : `the server answers ${status}`;
  return new StreamllError(codes[status] ?? (status >= 500 ? "unavailable" : "refused"), message, {
    status,
    ...(Array.isArray(body?.problems) ? { problems: body.problems } : {}),
    ...(seconds >= 0 ? { retryAfter: seconds * 1000 } : {}),
  });
}
