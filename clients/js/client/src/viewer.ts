// What the viewer's scripts, which are no modules, use of the client: in `window.streamll`.
import { StreamllError } from "./errors.js";
import { Attempts, Field } from "./fields.js";
import { joinRun } from "./index.js";
import { codePoints } from "./text.js";

const page = window as unknown as { streamll?: object };
page.streamll = Object.assign(page.streamll ?? {}, { joinRun, StreamllError, Attempts, Field, codePoints });
