"use strict";
// The board: three live reads of the API, each shown with the age that its stream states. EventSource would do for the
// states; the bounds are comments, which it hides, so the stream is read as text here.

const FLIGHTS = "/v1/flights/-/";
const $ = (id) => document.getElementById(id);
const chosen = { airport: "JFK", day: null, cursors: [null] };
const panels = {};

// --- a stream: states and bounds, for ever, also after the process at the other end was another one

async function* watch(path, signal) {
  let id = "", pause = 1000;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(id && { "Last-Event-ID": id }) };
      const response = await fetch(path, { headers, signal, cache: "no-store" });
      if (!response.ok) throw new Error((await response.json()).detail);
      for await (const block of blocks(response.body)) {
        if (block.retry) pause = Number(block.retry);
        if (block.id) id = block.id;
        yield block;
      }
    } catch (error) {
      if (signal.aborted) return;
      yield { trouble: error.message };
    }
    await new Promise((go) => setTimeout(go, pause));
  }
}

async function* blocks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n\n");
    rest = whole.pop();
    for (const text of whole) yield parsed(text);
  }
}

function parsed(text) {
  const block = { event: "message" };
  for (const line of text.split("\n")) {
    const at = line.indexOf(": ");
    const [name, value] = [line.slice(0, at), line.slice(at + 2)];
    if (name === "" && value.startsWith("bound ")) block.bound = value.slice(6);
    else if (name === "data") block.data = JSON.parse(value);
    else if (name) block[name] = value;
  }
  return block;
}

// --- ages

function show(name, path, draw) {
  panels[name]?.stop.abort();
  const panel = panels[name] = { stop: new AbortController(), bound: null, heard: 0, trouble: "" };
  (async () => {
    for await (const block of watch(path, panel.stop.signal)) {
      if (panel.stop.signal.aborted) return;
      if (block.bound) [panel.bound, panel.heard] = [block.bound, performance.now()];
      if (block.trouble || block.event === "problem") panel.trouble = block.trouble || block.data.detail;
      if (block.data && block.event !== "problem") {
        panel.trouble = "";
        draw(block.data);
      }
      age(name);
    }
  })();
}

function age(name) {
  const panel = panels[name], shown = $(`${name}-age`);
  if (!panel || panel.bound === null) return;
  // What was stated was true when it was said: since then it may be older by as much.
  const seconds = panel.bound === "unknown" ? NaN : Number(panel.bound) + (performance.now() - panel.heard) / 1000;
  const text = Number.isNaN(seconds) ? "age unknown" : `at most ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s old`;
  shown.textContent = panel.trouble ? `${text} · ${panel.trouble}` : text;
  shown.dataset.state = seconds < 3 ? "ok" : seconds < 6 ? "warning" : "problem";
  shown.dataset.seconds = seconds;
}

// --- what is shown

const time = (text) => text.slice(11, 16);
const minutes = (count) => count > 0 ? `+${count} min` : count < 0 ? `−${-count} min` : "on time";

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

let before = new Map();
function drawFlights(page) {
  const now = new Map(), rows = page.items.map((flight) => {
    const row = document.createElement("tr"), was = before.get(flight._id);
    const said = state(flight), number = element("td", `${flight.carrier?._id ?? "?"} ${flight.flight} `);
    number.append(element("small", flight.carrier?.name ?? ""));
    const to = element("td", `${flight.dest?._id ?? "?"} `);
    to.append(element("small", flight.dest?.name ?? ""));
    const shown = element("td", said[0].replace(/ min$/, ""), said[1]);
    if (said[0].endsWith(" min")) shown.append(element("small", " min"));
    row.append(element("td", time(flight.sched_dep)), number, to, shown);
    now.set(flight._id, said.join());
    if (was !== undefined && was !== said.join()) row.className = "changed";
    return row;
  });
  before = now;
  $("flights").replaceChildren(...rows);
  $("later").disabled = !page.next;
  $("later").dataset.cursor = page.next ?? "";
  const over = page.items.length && page.items.every((flight) => flight.status !== "scheduled" && flight.status !== "delayed");
  if (over && page.next && $("follow").checked) turn(1);
}

function state(flight) {
  if (flight.cancelled) return ["cancelled", "cancelled"];
  const delay = flight.dep_delay;
  if (flight.status === "arrived") return [`arrived ${minutes(flight.arr_delay ?? 0)}`, "arrived"];
  if (flight.status === "departed") return [`departed ${minutes(delay ?? 0)}`, delay > 15 ? "late" : "departed"];
  if (delay > 0) return [`delayed ${minutes(delay)}`, "late"];
  return [flight.status ?? "", ""];
}

const airlines = new Map();
async function airline(code) {
  if (!airlines.has(code)) {
    airlines.set(code, code);
    const response = await fetch(`/v1/airlines/${encodeURIComponent(code)}`);
    if (response.ok) airlines.set(code, (await response.json()).name);
  }
  return airlines.get(code);
}

function drawCarriers(counts) {
  const groups = counts.groups.filter((group) => group.averages.delay_minutes !== null)
    .sort((a, b) => b.averages.delay_minutes - a.averages.delay_minutes).slice(0, 10);
  const most = Math.max(...groups.map((group) => group.averages.delay_minutes), 1);
  $("carriers").replaceChildren(...groups.map((group) => {
    const row = document.createElement("li"), bar = document.createElement("meter"), code = group.by.carrier;
    const name = element("span", airlines.get(code) ?? code), average = group.averages.delay_minutes;
    airline(code).then((told) => { name.textContent = told; });
    Object.assign(bar, { max: most, value: Math.max(average, 0), title: `${group.count} flights` });
    row.append(name, bar, element("span", `${average.toFixed(1).replace("-", "−")} min`, "amount"));
    return row;
  }));
  if (!groups.length) $("carriers").replaceChildren(element("li", "No flight has left yet.", "calm"));
}

function drawLate(top) {
  const items = top.items.filter((item) => item.score > 0);
  $("late").replaceChildren(...items.map((item) => {
    const row = document.createElement("li"), [, flight, origin] = item.key.split(":");
    row.append(element("span", item.rank), element("span", `${flight} from ${origin}`), element("span", minutes(item.score), "amount"));
    return row;
  }));
  if (!items.length) $("late").replaceChildren(element("li", "Nobody is late yet.", "calm"));
}

// --- what is chosen

function look() {
  const { airport, day, cursors } = chosen, cursor = cursors.at(-1);
  const at = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
  before = new Map();
  show("flights", `${FLIGHTS}lists/departures?origin=${airport}&day=${day}&expand=carrier,dest${at}`, drawFlights);
  $("earlier").disabled = cursors.length < 2;
}

function lookAtDay() {
  chosen.cursors = [null];
  look();
  show("late", `${FLIGHTS}rankings/most_delayed?day=${chosen.day}&limit=8`, drawLate);
}

function turn(way) {
  if (way < 0) chosen.cursors.pop();
  else chosen.cursors.push($("later").dataset.cursor);
  look();
}

async function ask() {
  let told;
  try {
    told = await (await fetch("/board.json", { cache: "no-store" })).json();
  } catch {
    $("said").textContent = "The demo has ended.";
    return;
  }
  pressed($("freeze"), told.frozen);
  $("clock").textContent = told.now ? `On the board it is ${told.now.replace("T", ", ").slice(0, 17)}.` : "";
  if (!$("day").options.length) {
    $("day").append(...told.days.map((day) => new Option(new Date(`${day}T12:00Z`).toLocaleDateString("en", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" }), day)));
  }
  const day = told.now?.slice(0, 10);
  if (chosen.day === null || ($("follow").checked && told.days.includes(day) && day !== chosen.day)) {
    chosen.day = $("day").value = told.days.includes(day) ? day : told.days[0];
    lookAtDay();
  }
}

function pressed(button, is) {
  button.setAttribute("aria-pressed", is);
  if (button.id !== "freeze") return;
  button.textContent = is ? "Let the consumer go on" : "Freeze the consumer";
  $("said").textContent = is
    ? "Nothing is corrected now: what you see stays, and its age grows."
    : "Everything is read live. Each part says how old it can be at most.";
}

$("airports").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  for (const each of $("airports").children) pressed(each, each === button);
  chosen.airport = button.dataset.airport;
  chosen.cursors = [null];
  look();
});
$("day").addEventListener("change", () => {
  $("follow").checked = false;
  chosen.day = $("day").value;
  lookAtDay();
});
$("earlier").addEventListener("click", () => { $("follow").checked = false; turn(-1); });
$("later").addEventListener("click", () => { $("follow").checked = false; turn(1); });
$("freeze").addEventListener("click", async () => {
  const frozen = $("freeze").getAttribute("aria-pressed") !== "true";
  const told = await fetch("/freeze", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ frozen }) });
  pressed($("freeze"), (await told.json()).frozen);
});

show("carriers", `${FLIGHTS}counters/by_carrier`, drawCarriers);
ask();
setInterval(ask, 2000);
setInterval(() => Object.keys(panels).forEach(age), 100);
