// Follows the feed with the npm packages `eventsource` and `eventsource-parser` and prints what they understand.
// node feed_reader.mjs URL KEY eventsource|parser
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const [url, key, which] = process.argv.slice(2);
const say = (told) => console.log(JSON.stringify(told));
const names = ["hello", "snap", "snap_end", "upd", "hb", "reset", "bye"];

if (which === "eventsource") {
  const { EventSource } = require("eventsource");
  const source = new EventSource(url, {
    fetch: (input, init) =>
      fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${key}` } }),
  });
  for (const name of names) {
    source.addEventListener(name, (event) =>
      say({ event: name, id: event.lastEventId, data: JSON.parse(event.data) }),
    );
  }
  source.onerror = (event) => say({ event: "error", code: event.code ?? null, state: source.readyState });
} else {
  const { createParser } = require("eventsource-parser");
  const parser = createParser({
    onEvent: (event) => say({ event: event.event, id: event.id ?? null, data: JSON.parse(event.data) }),
    onRetry: (pause) => say({ event: "retry", data: pause }),
    onError: (error) => say({ event: "error", data: String(error) }),
  });
  const response = await fetch(url, { headers: { Authorization: `Bearer ${key}` } });
  const decoder = new TextDecoder();
  for await (const chunk of response.body) parser.feed(decoder.decode(chunk, { stream: true }));
}
