// The overview's live parts. Values from events are set as text, never as markup.
const number = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const at = (id) => document.getElementById(id);

class Topology extends HTMLElement {
  set picture(svg) {
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    const drawn = document.importNode(parsed, true);
    const root = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const { name, value } of drawn.attributes) root.setAttribute(name, value);
    root.append(...drawn.childNodes);
    this.replaceChildren(root);
  }
}

class Throughput extends HTMLElement {
  set history(rates) {
    const most = Math.max(1, ...rates);
    const steps = Math.max(rates.length - 1, 1);
    const points = rates.map((rate, i) => `${(i / steps) * 600},${118 - (rate / most) * 110}`);
    const ns = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(ns, "svg");
    svg.setAttribute("viewBox", "0 0 600 120");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${short.format(rates.at(-1) ?? 0)} events a second now, ${short.format(most)} at most`);
    if (points.length > 1) {
      const path = document.createElementNS(ns, "path");
      path.setAttribute("d", `M0,119L${points.join("L")}L600,119Z`);
      svg.append(path);
    }
    this.replaceChildren(svg);
  }
}

class Events extends HTMLElement {
  set events(list) {
    this.replaceChildren(...list.map((event) => {
      const line = document.createElement("div");
      const key = document.createElement("b");
      key.textContent = event.key ?? "-";
      const time = document.createElement("time");
      const moment = new Date(event.timestamp_ms);
      // A record may have no time (-1), or one that no calendar has.
      if (event.timestamp_ms >= 0 && !Number.isNaN(moment.getTime())) {
        time.dateTime = moment.toISOString();
        time.textContent = `${time.dateTime.replace("T", " ").slice(0, 19)}Z`;
      } else {
        time.textContent = "no time";
      }
      line.append(time, key, event.value ?? "tombstone");
      return line;
    }));
  }

  set refused(why) {
    const line = document.createElement("p");
    line.className = "empty";
    line.textContent = why;
    this.replaceChildren(line);
  }
}

customElements.define("hw-topology", Topology);
customElements.define("hw-throughput", Throughput);
customElements.define("hw-events", Events);

function fill(table, rows, cells) {
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, i) => {
    const line = body.rows[i] ?? body.insertRow();
    line.className = row.internal ? "internal" : "";
    cells(row).forEach((value, j) => {
      const cell = line.cells[j] ?? line.insertCell();
      if (value instanceof Node) {
        if (cell.textContent !== value.textContent) cell.replaceChildren(value);
      } else {
        cell.className = table.tHead.rows[0].cells[j].className;
        const text = typeof value === "number" ? number.format(value) : value;
        if (cell.textContent !== text) cell.textContent = text;
      }
    });
  });
}

let chosen = new URLSearchParams(location.search).get("stream");
let streams = [];
// The row of the chosen stream: the table may have no room for it.
let picked;
let services = [];
let sawAt = 0;
// What the node says is wrong with itself.
let trouble = "";

function link(name) {
  const button = document.createElement("button");
  button.textContent = name;
  button.addEventListener("click", () => {
    chosen = button.textContent;
    history.replaceState(null, "", `?stream=${encodeURIComponent(chosen)}`);
    follow();
    refreshEvents();
  });
  return button;
}

function show({ overview, chosen: row, more_streams: more, graph }) {
  if (graph) document.querySelector("hw-topology").picture = graph;
  ({ streams, services } = overview);
  picked = row;
  sawAt = Date.now();
  const health = at("health");
  const late = overview.groups.filter((group) => group.behind_seconds > 60);
  health.classList.toggle("ill", Boolean(trouble || overview.error) || late.length > 0);
  health.textContent = trouble ? `▲ ${trouble}`
    : overview.error ? `▲ ${overview.error}`
    : late.length ? `▲ ${late.map((group) => group.group).join(", ")} over a minute behind` : "● all is well";
  document.querySelector("hw-throughput").history = overview.throughput;
  at("rate").textContent = `${short.format(overview.throughput.at(-1) ?? 0)} records/s`;
  fill(at("groups"), overview.groups, (group) => [
    group.group, group.state, group.lag,
    group.behind_seconds === null ? (group.lag ? "waiting" : "0") : short.format(group.behind_seconds),
    Math.round(group.records_per_second),
  ]);
  fill(at("streams"), streams, (stream) => [
    link(stream.name), stream.partitions, stream.records, Math.round(stream.records_per_second),
  ]);
  at("more").hidden = !more;
  at("more").textContent = `${number.format(more)} more; these are the busiest, the others are found by name`;
}

// The node looks at its broker as long as somebody listens: a tab that nobody sees does not.
let live;
function follow() {
  live?.close();
  live = undefined;
  if (document.hidden) return;
  const table = new URLSearchParams({ internal: at("internal").checked, find: at("find").value.trim() });
  if (chosen) table.set("stream", chosen);
  const feed = new EventSource(`/console/live?${table}`);
  live = feed;
  feed.addEventListener("overview", (message) => show(JSON.parse(message.data)));
  feed.addEventListener("error", () => {
    const health = at("health");
    health.classList.add("ill");
    health.textContent = sawAt ? `▲ connection lost; stale since ${new Date(sawAt).toLocaleTimeString()}` : "▲ not reachable";
    // After an answer that is a refusal the browser does not try again by itself.
    if (feed.readyState === EventSource.CLOSED) setTimeout(() => feed === live && follow(), 5000);
  });
}
document.addEventListener("visibilitychange", follow);
at("internal").addEventListener("change", follow);
let typed;
at("find").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(follow, 200);
});
follow();

// Which stream is shown, and with how many records it was asked for.
let wanted;
let shown;

async function refreshEvents() {
  if (document.hidden) return;
  const busiest = streams.filter((stream) => !stream.internal)
    .sort((a, b) => b.records_per_second - a.records_per_second || b.records - a.records)[0];
  const stream = chosen ?? busiest?.name;
  if (!stream) return;
  const row = picked?.name === stream ? picked : streams.find((row) => row.name === stream);
  const state = `${stream} ${row?.records}`;
  // Nothing has come since: an idle page asks for nothing.
  if (row?.records_per_second === 0 && state === shown) return;
  wanted = stream;
  const answer = await fetch(`/api/v1/streams/${encodeURIComponent(stream)}/latest?count=15&text=true`);
  const said = await answer.json();
  // Another stream may have been chosen meanwhile.
  if (wanted !== stream) return;
  at("events-of").textContent = `of ${stream}`;
  at("try").textContent = `headwater tail ${stream} --decode`;
  const events = document.querySelector("hw-events");
  if (answer.ok) events.events = said;
  else events.refused = said.detail;
  shown = answer.ok ? state : undefined;
}

// The last hours of the demo's answers, asked of the service that holds them.
async function refreshWindows() {
  const service = services.find((row) => row.writes.includes("departures.hourly") && row.http);
  if (!service || document.hidden) return;
  const [newest] = await (await fetch("/api/v1/streams/departures.hourly/latest?count=1")).json();
  if (!newest?.value) return;
  const from = newest.value.window_start - 3 * 3_600_000;
  const store = `/api/v1/services/${encodeURIComponent(service.name)}/stores/departures-by-hour`;
  const answer = await fetch(`${store}?from=${from}&limit=100`);
  if (!answer.ok) return;
  const { rows } = await answer.json();
  rows.sort((a, b) => b.start - a.start || a.key.localeCompare(b.key));
  at("windows").hidden = false;
  fill(at("departures"), rows.slice(0, 12), ({ key, start, value }) => [
    key, new Date(start).toISOString().slice(0, 16).replace("T", " "),
    value.departures, Math.round((10 * value.sum_dep_delay_minutes) / value.departures) / 10,
  ]);
}

// A disk that is full, or a log that is damaged, is seen in no figure of the overview.
async function refreshHealth() {
  if (document.hidden) return;
  const { live, ready, findings } = await (await fetch("/health?json")).json();
  const worst = ["failure", "warning"].map((of) => findings.find(({ severity }) => severity === of)).find(Boolean);
  trouble = worst ? `${worst.what}; headwater doctor says more` : live && ready ? "" : "the node is not ready";
}

// A question that failed is asked again; that the node is gone is said by the live feed.
let asking = false;
async function refresh() {
  // One after the other, however long an answer takes: a browser has few connections to a node.
  if (asking) return;
  asking = true;
  await Promise.allSettled([refreshEvents(), refreshWindows()]);
  asking = false;
}
setInterval(refresh, 2000);
const look = () => refreshHealth().catch(() => {});
setInterval(look, 10_000);
look();
