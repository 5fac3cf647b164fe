// A network that breaks: a TCP proxy that cuts each connection in the middle of a frame, behind so many.
import net from "node:net";

/** The end of each server-sent event with data, counted over all that a connection brings. */
class Frames {
  text = "";
  ends(bytes) {
    const ends = [], before = this.text.length;
    this.text += bytes.toString("latin1");
    for (const found of this.text.matchAll(/\ndata: .*\n\n/g)) ends.push(found.index + found[0].length - before);
    const last = ends.at(-1);
    if (last !== undefined) this.text = this.text.slice(before + last - 1);
    return ends;
  }
}

/** The end of each message of a WebSocket, behind the answer to its handshake. */
class Messages {
  rest = Buffer.alloc(0);
  open = false;
  ends(bytes) {
    const ends = [], before = this.rest.length;
    const all = Buffer.concat([this.rest, bytes]);
    let at = 0;
    if (!this.open) {
      const head = all.indexOf("\r\n\r\n");
      if (head < 0) { this.rest = all; return ends; }
      this.open = true;
      at = head + 4;
    }
    while (at + 2 <= all.length) {
      let size = all[at + 1] & 127, begin = at + 2;
      if (size === 126) { if (at + 4 > all.length) break; size = all.readUInt16BE(at + 2); begin = at + 4; }
      if (size === 127) { if (at + 10 > all.length) break; size = Number(all.readBigUInt64BE(at + 2)); begin = at + 10; }
      if (begin + size > all.length) break;
      at = begin + size;
      ends.push(at - before);
    }
    this.rest = all.subarray(at);
    return ends;
  }
}

/** Leads to the server at `port`; `cuts` counts. A connection of another kind than `/events` and `/ws` is left alone. */
export async function cutting(port, every) {
  const line = { cuts: 0 };
  const proxy = net.createServer((client) => {
    const server = net.connect(port, "127.0.0.1");
    let counter = null, left = every;
    const end = () => { client.destroy(); server.destroy(); };
    client.on("data", (bytes) => {
      if (/^(?:GET|POST) \S*\/events/.test(bytes.toString("latin1"))) counter = new Frames();
      if (/^GET \S*\/ws/.test(bytes.toString("latin1"))) counter = new Messages();
      server.write(bytes);
    });
    server.on("data", (bytes) => {
      if (left === 0) return;
      const ends = counter ? counter.ends(bytes) : [];
      if (ends.length < left) { left -= ends.length; client.write(bytes); return; }
      line.cuts++;
      client.write(bytes.subarray(0, ends[left - 1] + 7)); // and a bit of the next
      setTimeout(end, 5); // what a socket has not handed over when it breaks is lost with it
      left = 0;
    });
    client.on("error", end).on("close", end);
    server.on("error", end).on("close", () => client.destroySoon());
  });
  await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
  line.url = `http://127.0.0.1:${proxy.address().port}/`;
  line.close = () => proxy.close();
  return line;
}
