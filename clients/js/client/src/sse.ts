// The event stream format of the WHATWG HTML standard: text in, frames out. No I/O.


/** Text may be cut anywhere. Comments, names and ids are passed over: events say themselves where they belong. */
export class FrameReader {
  /** Milliseconds that the server asks to wait before coming back. */
  retry: number | null = null;
  private rest = "";
  private data: string[] = [];

  *read(text: string): Generator<string> {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop()!;
    for (let line of lines) {
      if (line.endsWith("\r")) line = line.slice(0, -1);
      if (line === "") {
        if (this.data.length) yield this.data.join("\n");
        this.data = [];
      } else if (line.startsWith("data:")) {
        this.data.push(line.slice(line[5] === " " ? 6 : 5));
      } else if (/^retry: ?\d+$/.test(line)) {
        this.retry = Number(line.slice(6));
      }
    }
  }
}
