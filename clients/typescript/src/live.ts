/** The states of one thing as they come. A stream that breaks is begun again from the last version: no last state is missed, none
 * comes twice, and none is older than one before it. Browsers and Node alike. See docs/live.md. */

export interface LiveState {
  /** The body that a GET answers, as text; null: there is nothing. */
  text: string | null;
  /** 16 hex digits. */
  version: string;
  /** Seconds: how old it can be at most; null: unknown. */
  bound: number | null;
}

export interface LiveOptions {
  /** Or who makes them for each connection. */
  headers?: Record<string, string> | (() => Promise<Record<string, string>>);
  signal?: AbortSignal;
  fetch?: typeof fetch;
  /** Is told of the bound of the last state, at least each second while the API can be heard. */
  onBound?: (seconds: number | null) => void;
  /** Is told why there may be nothing new: a problem of the API, or what broke the connection. */
  onTrouble?: (why: unknown) => void;
  /** Makes an error of an answer that is no stream; what it throws ends the read, unless `canPass` is true. */
  refuse: (answer: Response) => Promise<Error & { canPass?: boolean; retryAfterSeconds?: number | null }>;
}

const SILENCE_MS = 15_000;
const LONGEST_PAUSE_MS = 10_000;

export async function* live(url: string, options: LiveOptions): AsyncGenerator<LiveState, void, undefined> {
  let last: LiveState | null = null;
  let pause = 100;
  let told = 0;
  while (!options.signal?.aborted) {
    const gone = new AbortController();
    const leave = () => gone.abort();
    options.signal?.addEventListener("abort", leave);
    let timer = setTimeout(leave, SILENCE_MS);
    try {
      const own = typeof options.headers === "function" ? await options.headers() : options.headers;
      const headers = { ...own, accept: "text/event-stream", ...(last ? { "last-event-id": last.version } : {}) };
      const answer = await (options.fetch ?? fetch)(url, { headers, signal: gone.signal, cache: "no-store" });
      if (!answer.ok || !answer.headers.get("content-type")?.startsWith("text/event-stream")) throw await options.refuse(answer);
      let bound: number | null = null;
      let event = { name: "message", id: "", data: [] as string[] };
      for await (const line of lines(answer.body!)) {
        clearTimeout(timer);
        timer = setTimeout(leave, SILENCE_MS);
        const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line)!;
        if (line === "") {
          const said = event;
          event = { name: "message", id: said.id, data: [] };
          if (!said.data.length) continue;
          const data = said.data.join("\n");
          if (said.name === "problem") options.onTrouble?.(JSON.parse(data));
          if (!["message", "absent"].includes(said.name) || !/^[0-9a-f]{16}$/.test(said.id) || (last && said.id < last.version)) continue;
          const state: LiveState = { text: said.name === "absent" ? null : data, version: said.id, bound };
          const isNew: boolean = last === null || last.text !== state.text;
          last = state;
          pause = 100;
          if (isNew) yield state;
        } else if (name === "" && value!.startsWith("bound ")) {
          bound = value === "bound unknown" ? null : Number(value!.slice(6));
          options.onBound?.(bound);
        } else if (name === "id") event.id = value!;
        else if (name === "event") event.name = value!;
        else if (name === "data") event.data.push(value!);
        else if (name === "retry" && /^\d{1,9}$/.test(value!)) told = Number(value);
      }
    } catch (why) {
      const { canPass, retryAfterSeconds } = why as { canPass?: boolean; retryAfterSeconds?: number | null };
      if (options.signal?.aborted) return;
      if (canPass === false) throw why;
      told = Math.max(told, (retryAfterSeconds ?? 0) * 1000);
      options.onTrouble?.(why);
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", leave);
      gone.abort();
    }
    await new Promise((done) => setTimeout(done, Math.min(Math.max(pause, told), LONGEST_PAUSE_MS) * (0.7 + 0.6 * Math.random())));
    [pause, told] = [Math.min(2 * pause, LONGEST_PAUSE_MS), 0];
  }
}

/** Lines of a stream of UTF-8, whatever pieces it comes in. */
async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const [reader, decoder] = [body.getReader(), new TextDecoder()];
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = parts.pop()!;
    yield* parts;
  }
}
