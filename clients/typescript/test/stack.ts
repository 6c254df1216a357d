/** What tests/integration/api/test_client.py runs: reads of each kind, then a live read that is cut. Each line is JSON. */

import type { paths } from "./api.js";
import { ApiProblem, Neverstale } from "./client.js";

declare const process: { argv: string[] };

const say = (name: string, what: unknown) => console.log(JSON.stringify([name, what]));
const [, , url, key] = process.argv as [string, string, string, string];
const api = new Neverstale<paths>(url);

const flight = await api.get("/v1/flights/{key}", { path: { key } });
const gate: string | null | undefined = flight.value?.gate;
say("document", [gate, flight.value?._id, flight.bound !== null, /^[0-9a-f]{16}$/.test(flight.version ?? "")]);
say("absent", (await api.get("/v1/flights/{key}", { path: { key: "a/b é.." } })).value);
say("dots", await api.get("/v1/flights/{key}", { path: { key: ".." } }).catch((why: Error) => why.name));
say("dots in keys", (await api.get("/v1/flights", { query: { keys: [".."] } })).value?.items);

const many = await api.get("/v1/flights", { query: { keys: [key, "a,b"] } });
say("many", many.value?.items.map((item) => item.value?._id ?? null));

const page = await api.get("/v1/flights/-/lists/departures", { query: { origin: "LGA", day: "2013-02-08" } });
say("page", page.value?.items.map((item) => item._id));

const count = await api.get("/v1/flights/-/counters/by_carrier", { query: { carrier: "UA" } });
say("count", [count.value?.count, count.value?.sums?.delay_minutes]);

const top = await api.get("/v1/flights/-/rankings/most_delayed", { query: { day: "2013-02-08", limit: 1 } });
say("ranking", top.value?.items.map((item) => [item.key, item.score, item.rank]));

const united = await api.get("/v1/airlines/-/by/name/{value}", { path: { value: "United Air Lines Inc." } });
say("lookup", united.value?._id);

say("demand", (await api.get("/v1/flights/{key}", { path: { key } }, { noCache: true })).how);
say("session", [api.version >= (flight.version ?? "g"), (await api.get("/v1/flights/{key}", { path: { key } })).value !== null]);

try {
  await api.get("/v1/flights/-/lists/departures", { query: { origin: "LGA", day: "2013-02-08", cursor: "x" } });
} catch (problem) {
  if (!(problem instanceof ApiProblem)) throw problem;
  say("problem", [problem.status, problem.type, problem.members["parameter"], problem.canPass]);
}

const shown: (string | null)[] = [];
const noting: typeof fetch = (input, init) => {
  shown.push(new Headers(init?.headers).get("authorization"));
  return fetch(input, { ...(init?.signal ? { signal: init.signal } : {}) });
};
let tokens = 0;
const known = new Neverstale<paths>(url, { fetch: noting, bearer: async () => `token${(tokens += 1)}` });
await known.get("/v1/airlines/{key}", { path: { key: "UA" } });
await known.get("/v1/airlines/{key}", { path: { key: "UA" } });
say("bearer", shown);

// What the OpenAPI does not have is refused when it is compiled.
// @ts-expect-error: there is no such path
() => api.get("/v1/nothing/{key}", { path: { key } });
// @ts-expect-error: a list wants the values of its fields
() => api.get("/v1/flights/-/lists/departures", { query: { origin: "LGA" } });
// @ts-expect-error: a document has no such field
flight.value?.nothing;

let connections = 0;
const cutting: typeof fetch = async (input, init) => {
  const answer = await fetch(input, init);
  connections += 1;
  if (connections > 1 || answer.body === null) return answer;
  let seen = "";
  const cut = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      seen += new TextDecoder().decode(chunk);
      controller.enqueue(chunk);
      if (seen.includes("data: ")) setTimeout(() => controller.error(new Error("cut")), 50);
    },
  });
  return new Response(answer.body.pipeThrough(cut), { headers: answer.headers });
};
const watching = new Neverstale<paths>(url, { fetch: cutting });
const troubles: unknown[] = [];
let bounds = 0;
const options = { onBound: () => (bounds += 1), onTrouble: (why: unknown) => troubles.push(why) };
for await (const state of watching.live("/v1/flights/{key}", { path: { key } }, options)) {
  say("live", state.value?.gate ?? null);
  if (state.value === null) break;
}
say("after", [connections > 1, troubles.length > 0, bounds > 0]);
