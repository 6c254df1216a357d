"use strict";
// Shows the pictures that the console sends. Whatever they hold is text, never markup.

const STAGES = ["mongodb", "watcher", "kafka", "consumer", "redis", "api"];
const NAMES = { mongodb: "MongoDB", watcher: "watcher", kafka: "Kafka", consumer: "consumers", redis: "Redis", api: "API" };
const FLOWS = ["watch", "publish", "apply", "correct", "read"];
const TOLD_BY = { partitions: ["redis", "kafka"], processes: ["redis"] };
const LATE = 4; // periods without a new picture, then what is shown is old

const $ = (id) => document.getElementById(id);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
let last = null; // the last picture
let heardAt = 0; // performance.now() when it came
let connected = false;

function make(name, attributes = {}, ...children) {
  const svg = ["g", "rect", "text", "path"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// --- the picture of the pipeline, drawn once in each shape

function box(svg, stage, x, y, width) {
  const group = make("g", { class: "unknown", "data-stage": stage });
  group.append(
    make("rect", { class: "box", x, y, width, height: 84, rx: 8 }),
    make("text", { class: "name", x: x + width / 2, y: y + 24, "text-anchor": "middle" }, NAMES[stage]),
    make("text", { class: "first", x: x + width / 2, y: y + 47, "text-anchor": "middle" }),
    make("text", { class: "second", x: x + width / 2, y: y + 69, "text-anchor": "middle" }),
  );
  svg.append(group);
}

function arrow(svg, flow, path, tip, x, y, anchor, beside) {
  const group = make("g", { "data-flow": flow });
  group.append(
    make("path", { class: "flow", d: path }),
    make("path", { class: "head", d: tip }),
    make("text", { class: "rate", x, y, "text-anchor": anchor }),
    make("text", { class: "unit soft", x: x + (beside ? 6 : 0), y: y + (beside ? 0 : 16), "text-anchor": beside ? "start" : anchor }),
    make("text", { class: "lag soft", x: x + (beside ? 84 : 0), y: y + (beside ? 0 : 41), "text-anchor": beside ? "start" : anchor }),
  );
  svg.append(group);
}

function draw() {
  const wide = $("wide"), narrow = $("narrow");
  STAGES.forEach((stage, n) => {
    box(wide, stage, 2 + n * 213, 34, 131);
    box(narrow, stage, 2, 2 + n * 122, 336);
  });
  FLOWS.forEach((flow, n) => {
    const x = 135 + n * 213, y = 88 + n * 122;
    arrow(wide, flow, `M${x} 80H${x + 70}`, `M${x + 78} 80l-10 -6v12z`, x + 39, 54, "middle", false);
    arrow(narrow, flow, `M40 ${y}V${y + 26}`, `M40 ${y + 34}l-6 -10h12z`, 112, y + 22, "end", true);
  });
  arrow(wide, "load", "M1132 120V176H67V128", "M67 120l-6 10h12z", 560, 168, "end", true);
  // On a phone there is no room for that arrow: how much is read of MongoDB stands in its box.
}

// A line that is too long for its box is written narrower.
function fit(group, line, said) {
  const text = group.querySelector(line), room = group.querySelector("rect").width.baseVal.value - 12;
  put(text, said);
  text.removeAttribute("textLength");
  if (text.getComputedTextLength() > room) {
    text.setAttribute("textLength", room);
    text.setAttribute("lengthAdjust", "spacingAndGlyphs");
  }
}

function fill(picture) {
  for (const svg of [$("wide"), $("narrow")]) {
    for (const [stage, shown] of Object.entries(picture.stages)) {
      const group = svg.querySelector(`[data-stage=${stage}]`);
      group.setAttribute("class", shown.state);
      fit(group, ".first", shown.first);
      fit(group, ".second", shown.second);
    }
    for (const [flow, shown] of Object.entries(picture.flows)) {
      const group = svg.querySelector(`[data-flow=${flow}]`);
      if (!group) continue;
      put(group.querySelector(".rate"), shown.rate);
      put(group.querySelector(".unit"), `${shown.unit}/s`);
      put(group.querySelector(".lag"), shown.lag);
    }
  }
  const said = STAGES.map((stage) => `${NAMES[stage]}: ${picture.stages[stage].first}, ${picture.stages[stage].second}`);
  put($("pipeline-said"), `${said.join(". ")}. ${Object.values(picture.flows).map((flow) => `${flow.rate} ${flow.unit} a second ${flow.lag}`).join(", ")}.`);
}

// --- tables and lists; rows are kept and filled again, so that nothing jumps and nothing loses the focus

function rows(body, items, columns, empty) {
  if (!items.length) {
    if (!body.querySelector(".empty")) {
      body.replaceChildren(make("tr", { class: "empty" }, make("td", { colspan: columns }, empty)));
    }
    return;
  }
  body.querySelector(".empty")?.remove();
  while (body.rows.length > items.length) body.deleteRow(-1);
  items.forEach(({ cells, bad }, n) => {
    const row = body.rows[n] ?? body.insertRow();
    row.className = bad ? "bad" : "";
    cells.forEach((cell, at) => {
      const place = row.cells[at] ?? row.insertCell();
      if (cell instanceof Object) {
        place.className = "number";
        put(place, cell.number);
      } else put(place, cell);
    });
  });
}

const spoken = (ms) => {
  const seconds = Math.max(ms, 0) / 1000;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
};

function partitions(picture) {
  rows($("partitions"), picture.partitions.map((one) => ({
    bad: one.stands,
    cells: [
      { number: String(one.partition) },
      { number: one.age_ms === null ? "unknown" : `${spoken(one.age_ms)} ago` },
      { number: one.lag === null ? "unknown" : one.lag.toLocaleString("en") },
      one.owned ? one.owner : `nobody has it${one.owner ? `; last ${one.owner}` : ""}`,
    ],
  })), 4, "none known");
}

function reads(picture) {
  const body = $("reads");
  body.querySelector(".empty")?.remove();
  picture.reads.forEach((one, n) => {
    const row = body.rows[n] ?? body.insertRow();
    if (!row.cells.length) {
      row.insertCell();
      row.insertCell().append(make("meter", { min: 0, max: 1, "aria-label": `share of ${one.how}` }));
      row.insertCell();
    }
    put(row.cells[0], { memory: "L1, memory", Redis: "L2, Redis", request: "as asked" }[one.how] ?? one.how);
    row.cells[1].firstChild.value = one.share;
    put(row.cells[2], `${one.rate.toLocaleString("en")}/s`);
  });
}

function figures(picture) {
  const list = $("figures");
  picture.figures.forEach((one, n) => {
    let item = list.children[n];
    if (!item) list.append(item = make("div", {}, make("dt"), make("dd")));
    put(item.firstChild, one.name);
    put(item.lastChild, one.value);
    item.lastChild.className = one.well ? "" : "bad";
  });
  while (list.children.length > picture.figures.length) list.lastChild.remove();
}

function processes(picture) {
  rows($("processes"), picture.processes.map((one) => ({
    bad: one.presence !== "answers",
    cells: [{ number: one.role }, { number: one.up }, { number: one.memory }, one.says, one.where],
  })), 5, "none has said that it runs");
}

function copy(text, button) {
  navigator.clipboard?.writeText(text).then(() => {
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }, () => {});
}

function finding(one) {
  const word = { problem: "Problem", warning: "Warning" }[one.level] ?? "Unknown";
  const item = make("li", { "data-level": one.level }, make("p", {}, make("b", {}, `${word}: `), one.message));
  if (one.remedy) {
    const button = make("button", { type: "button", "aria-label": `Copy: ${one.remedy}` }, "Copy");
    button.addEventListener("click", () => copy(one.remedy, button));
    item.append(make("div", { class: "remedy" }, make("pre", {}, one.remedy), button));
  }
  return item;
}

function findings(picture) {
  const list = $("findings");
  while (list.children.length > Math.max(picture.findings.length, 1)) list.lastChild.remove();
  picture.findings.forEach((one, n) => {
    const item = list.children[n];
    const same = item?.dataset.remedy === one.remedy && item?.dataset.level === one.level;
    if (same) {
      const message = item.firstChild.lastChild; // what grows older is written again; the button keeps the focus
      if (message.data !== one.message) message.data = one.message;
      return;
    }
    const fresh = finding(one);
    fresh.dataset.remedy = one.remedy;
    if (item) item.replaceWith(fresh); else list.append(fresh);
  });
  if (!picture.findings.length && !list.querySelector(".calm")) {
    list.replaceChildren(make("li", { class: "calm" }));
  }
  if (!picture.findings.length) put(list.firstChild, "Nothing is wrong that anybody here knows of.");
}

function happenings(picture) {
  const list = $("happenings");
  const newest = picture.happenings[0];
  const key = newest ? `${newest.at_ms} ${picture.happenings.length} ${newest.what}` : "";
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  if (!newest) { // a console that has started anew remembers nothing
    list.replaceChildren(make("li", { class: "calm" }, "Nothing worth a line."));
    return;
  }
  list.replaceChildren(...picture.happenings.map((one) => {
    const at = new Date(one.at_ms);
    return make("li", {}, make("time", { datetime: at.toISOString() }, at.toLocaleTimeString("en-GB")), make("span", {}, one.what), make("code", {}, one.remedy));
  }));
}

function resources(picture) {
  const select = $("resource");
  if (select.options.length) return;
  select.append(...Object.keys(picture.resources).map((name) => make("option", {}, name)));
  declared();
}

// Lists, counters, rankings and look-ups are asked for by their group.
function declared() {
  const document = make("option", { value: "" }, "one document");
  $("of").replaceChildren(document, ...(last?.resources[$("resource").value] ?? []).map((name) => make("option", {}, name)));
  grouped();
}

function grouped() {
  const of = $("of").value;
  put($("key-name"), of ? "group" : "key");
  $("key").required = !of;
  $("key").placeholder = of.startsWith("lookups.") ? `${of.slice(8)}=VALUE` : of ? "origin=JFK&day:int=3, as in URLs; empty if it has no fields" : "as it stands in URLs";
}

function show(picture) {
  document.body.dataset.state = "shown";
  put($("database"), picture.database);
  put($("version"), `Version ${picture.version}.`);
  const heading = $("sentence");
  if (heading.dataset.state !== picture.sentence.state) {
    heading.dataset.state = picture.sentence.state;
    put($("said"), picture.sentence.text); // read aloud when the state changes, not each second
  }
  put($("sentence-text"), picture.sentence.text);
  document.title = `${{ ok: "✓", warning: "!", problem: "✕" }[picture.sentence.state]} neverstale console`;
  for (const part of [findings, fill, partitions, reads, figures, processes, happenings, resources]) part(picture);
  greyed(picture);
}

// --- what is old is grey, and says how old it is

function greyed(picture) {
  for (const [part, servers] of Object.entries(TOLD_BY)) {
    const away = servers.filter((server) => server in picture.away);
    const section = $(part).closest("section");
    const title = section.querySelector("h2");
    title.querySelector(".since")?.remove();
    $(part).toggleAttribute("data-old", away.length > 0);
    if (away.length) {
      const said = away.map((server) => `${NAMES[server]} ${server in picture.heard ? `since ${spoken(picture.heard[server] * 1000)}` : "has not answered yet"}`);
      title.append(make("span", { class: "since" }, ` — last known; away: ${said.join(", ")}`));
    }
  }
}

function tick() {
  if (!last) {
    if (!connected) banner("The console does not answer.");
    return;
  }
  const passed = (performance.now() - heardAt) / 1000;
  const old = passed > LATE * last.period_seconds;
  put($("age"), passed < 1.5 ? "as of now" : `as of ${Math.floor(passed)} s ago`);
  banner(!connected ? `The console does not answer: this is what it showed ${Math.floor(passed)} s ago.` : old ? `A look takes long, since a server is silent: this is ${Math.floor(passed)} s old.` : "");
  document.querySelector("main").toggleAttribute("data-old", !connected || (old && passed > 15));
}

function banner(text) {
  put($("banner"), text);
  $("banner").hidden = !text;
}

// --- why

$("resource").addEventListener("change", declared);
$("of").addEventListener("change", grouped);
$("why").addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = $("verdict"), button = event.target.querySelector("button");
  const query = new URLSearchParams({ resource: $("resource").value, of: $("of").value, key: $("key").value });
  button.disabled = true;
  place.replaceChildren(make("p", {}, "Asking MongoDB, Redis, Kafka and the API …"));
  try {
    const answer = await (await fetch(`why?${query}`)).json();
    const story = (answer.lines ?? []).flatMap(([about, what]) => [make("dt", {}, about), make("dd", {}, what)]);
    place.replaceChildren(make("p", {}, answer.verdict ?? answer.problem), make("dl", {}, ...story));
  } catch {
    place.replaceChildren(make("p", {}, "The console does not answer."));
  } finally {
    button.disabled = false;
    button.focus();
  }
});

draw();
const pictures = new EventSource("pictures");
pictures.addEventListener("open", () => { connected = true; });
pictures.addEventListener("error", () => { connected = false; tick(); });
pictures.addEventListener("message", (event) => {
  connected = true;
  last = JSON.parse(event.data);
  heardAt = performance.now();
  show(last);
  tick();
});
setInterval(tick, 500);
addEventListener("resize", () => { if (last) fill(last); }); // the other shape of the pipeline may be seen now
