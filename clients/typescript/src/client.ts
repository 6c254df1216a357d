/** Reads of a neverstale API, typed by its OpenAPI:
 *
 *     npx openapi-typescript http://127.0.0.1:8000/openapi.json -o api.d.ts
 *
 *     const api = new Neverstale<paths>("http://127.0.0.1:8000");
 *     const flight = await api.get("/v1/flights/{key}", { path: { key: "2013-02-08:UA650:LGA" } });
 *     console.log(flight.value?.status, flight.bound);
 */

import { live } from "./live.js";

type Json = "application/json";
type Operation = { get: { responses: { 200: { content: { [Json in "application/json"]: unknown } } } } };
/** The paths that can be read as JSON. */
export type ReadablePath<Paths> = { [P in keyof Paths]: Paths[P] extends Operation ? P : never }[keyof Paths] & string;
export type BodyOf<Path> = Path extends Operation ? Path["get"]["responses"][200]["content"][Json] : never;
type Parameters<Path> = Path extends { get: { parameters: infer P } } ? P : never;
/** What a path and a query have to say. */
export type ParametersOf<Path> = Pick<Parameters<Path>, Extract<keyof Parameters<Path>, "path" | "query">>;

export interface Fresh<T> {
  /** What was read; null: there is no such document. */
  value: T;
  /** The version at which it was read, 16 hex digits; null: unknown. */
  version: string | null;
  /** Seconds: no change that was acknowledged longer before the answer is missing; null: unknown. */
  bound: number | null;
  /** The header Cache-Status: whether it was a hit, and why not; empty of live reads. */
  how: string;
  etag: string | null;
}

/** What a request insists on, see "Demands of a request" in docs/http.md. */
export interface Demand {
  maxAge?: number;
  noCache?: boolean;
  onlyIfCached?: boolean;
  staleIfError?: number;
  minVersion?: string;
}

export interface ClientOptions {
  /** A key or a token; or who is asked for one before each request and each connection of a live read. */
  bearer?: string | (() => Promise<string>);
  headers?: Record<string, string>;
  fetch?: typeof fetch;
  /** What was seen or written before, 16 hex digits. */
  version?: string;
  /** false: answers demand nothing of later ones. */
  monotonic?: boolean;
}

/** The API refuses, and says why (RFC 9457). */
export class ApiProblem extends Error {
  constructor(
    readonly status: number,
    readonly members: Record<string, unknown>,
    /** Whether the same request may succeed later. */
    readonly canPass: boolean,
    readonly retryAfterSeconds: number | null,
  ) {
    super(`${status} ${members["detail"] ?? members["title"] ?? ""}`.trim());
  }

  /** For programs, e.g. urn:neverstale:bad-parameter. */
  get type(): string {
    return String(this.members["type"] ?? "about:blank");
  }
}

const ABSENT = "urn:neverstale:unknown-key";
const VERSION = /^[0-9a-f]{16}$/;

/** One API, read by one reader: what it has seen once it demands of every later answer, so that time never goes backwards. */
export class Neverstale<Paths extends object> {
  /** No answer misses a change up to this version; empty: any will do. */
  version: string;
  readonly #url: string;
  readonly #options: ClientOptions;

  constructor(url: string, options: ClientOptions = {}) {
    this.#url = url.replace(/\/+$/, "");
    this.#options = options;
    this.version = options.version ?? "";
  }

  /** Reads once. Rejects with an `ApiProblem`, or with what `fetch` rejects with. */
  async get<P extends ReadablePath<Paths>>(
    path: P,
    parameters: ParametersOf<Paths[P]>,
    demand: Demand = {},
    signal?: AbortSignal,
  ): Promise<Fresh<BodyOf<Paths[P]> | null>> {
    const headers = { ...(await this.#headers(demand)), accept: "application/json" };
    const answer = await this.#fetch(this.#url + spelled(path, parameters), { headers, ...(signal ? { signal } : {}) });
    let value: BodyOf<Paths[P]> | null = null;
    if (answer.ok) value = (await answer.json()) as BodyOf<Paths[P]>;
    else {
      const problem = await problemOf(answer);
      if (problem.type !== ABSENT) throw problem;
    }
    const version = answer.headers.get("neverstale-version");
    if (version !== null) this.#saw(version);
    const bound = answer.headers.get("neverstale-bound");
    return {
      value,
      version: version !== null && VERSION.test(version) ? version : null,
      bound: bound !== null && /^\d+(\.\d+)?$/.test(bound) ? Number(bound) : null,
      how: answer.headers.get("cache-status") ?? "",
      etag: answer.headers.get("etag"),
    };
  }

  /** Each state as it comes, for as long as the loop goes on; see `live`. */
  async *live<P extends ReadablePath<Paths>>(
    path: P,
    parameters: ParametersOf<Paths[P]>,
    options: { signal?: AbortSignal; onBound?: (seconds: number | null) => void; onTrouble?: (why: unknown) => void } = {},
  ): AsyncGenerator<Fresh<BodyOf<Paths[P]> | null>, void, undefined> {
    const url = this.#url + spelled(path, parameters);
    for await (const state of live(url, { ...options, headers: () => this.#headers({}), fetch: this.#fetch, refuse: problemOf })) {
      this.#saw(state.version);
      const value = state.text === null ? null : (JSON.parse(state.text) as BodyOf<Paths[P]>);
      yield { value, version: state.version, bound: state.bound, how: "", etag: null };
    }
  }

  #fetch: typeof fetch = (input, init) => (this.#options.fetch ?? fetch)(input, init);

  #saw(version: string): void {
    if (this.#options.monotonic !== false && VERSION.test(version) && version > this.version) this.version = version;
  }

  async #headers(demand: Demand): Promise<Record<string, string>> {
    const bearer = typeof this.#options.bearer === "function" ? await this.#options.bearer() : this.#options.bearer;
    const directives = [
      demand.maxAge === undefined ? "" : `max-age=${demand.maxAge}`,
      demand.noCache ? "no-cache" : "",
      demand.onlyIfCached ? "only-if-cached" : "",
      demand.staleIfError === undefined ? "" : `stale-if-error=${demand.staleIfError}`,
    ].filter(Boolean);
    const least = [this.version, demand.minVersion ?? ""].sort().at(-1)!;
    return {
      ...this.#options.headers,
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...(directives.length ? { "cache-control": directives.join(", ") } : {}),
      ...(least ? { "neverstale-min-version": least } : {}),
    };
  }
}

/** The path with its parameters: each value is one segment, however it looks. `.` and `..` alone cannot be one, since `fetch`
 * resolves them even where they are escaped: such a key is to be asked for in `keys`. */
export function spelled(path: string, parameters: { path?: unknown; query?: unknown }): string {
  const values = (parameters.path ?? {}) as Record<string, unknown>;
  const target = path.replace(/\{([^}]+)\}/g, (_, name: string) => segment(String(values[name])));
  if (/\/\.\.?(\/|$)/.test(target)) throw new RangeError("a key of . or .. cannot stand in a path; ask for it in keys");
  const query = Object.entries((parameters.query ?? {}) as Record<string, unknown>)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${segment(name)}=${[value].flat().map((one) => segment(String(one))).join(",")}`);
  return target + (query.length ? `?${query.join("&")}` : "");
}

const segment = encodeURIComponent;

async function problemOf(answer: Response): Promise<ApiProblem> {
  const text = await answer.text();
  let members: Record<string, unknown> = { detail: "this is no answer of the API" };
  const isProblem = answer.headers.get("content-type")?.startsWith("application/problem+json") ?? false;
  if (isProblem) members = JSON.parse(text) as Record<string, unknown>;
  const retry = answer.headers.get("retry-after");
  const passes = [429, 503].includes(answer.status) || (!isProblem && [502, 504].includes(answer.status));
  return new ApiProblem(answer.status, members, passes, retry !== null && /^\d+$/.test(retry) ? Number(retry) : null);
}
