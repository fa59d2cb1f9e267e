// The page for inspectors: pictures in, verdicts and maps out, answers into the journal.
// What comes from files or from the server is put into the page as text only, never as HTML.

const AT_ONCE = 2; // pictures that are sent at the same time
const MAPS_KEPT = 60; // maps in memory; an older one is asked for again when its picture is shown
const WORKING_PIXELS = 4e6; // of a map that is drawn; a larger one is reduced
const REACH = 8; // pixels; the peak near a pixel is the highest value of the square around it
const MIDDLE = 128; // the value of a map at the detector's threshold
const TRIES = 8; // of a picture while the service is busy
const NOTES = { good: "Good", "look again": "Look again", defective: "Defective" };
// The colours of `zoo score --out`: from far below the threshold over it (the middle) to far above.
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

const $ = (id) => document.getElementById(id);

const state = {
  detectors: [], // as the server lists them
  detector: "", // the name that new pictures are sent to
  scores: null, // good scores of that detector
  journal: { on: false, keep: "none" },
  items: [], // the pictures of this session
  current: null,
  threshold: 1,
  serial: 0,
};

// ------------------------------------------------------------------------------------- the server

/** What the server refused, as one sentence. */
class Refusal extends Error {
  constructor(message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const keyStore = {
  own: "",
  get value() {
    try {
      return sessionStorage.getItem("zoo-key") ?? this.own;
    } catch {
      return this.own; // storage is switched off; the key lives as long as the page
    }
  },
  set value(key) {
    this.own = key;
    try {
      sessionStorage.setItem("zoo-key", key);
    } catch {
      // as above
    }
  },
};

/** Ask the server; a refusal is thrown as a `Refusal`, and one for lack of a key asks for it. */
async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (keyStore.value) headers.set("Authorization", `Bearer ${keyStore.value}`);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Refusal(
      "The server does not answer. Look whether it still runs and whether this device reaches it.",
    );
  }
  if (answer.ok) return answer;
  const message = await sentenceOf(answer);
  if (answer.status === 401) askForKey(keyStore.value ? message : "");
  throw new Refusal(message, {
    status: answer.status,
    retryAfter: Number(answer.headers.get("Retry-After")) || 0,
  });
}

async function sentenceOf(answer) {
  try {
    const found = await answer.json();
    if (typeof found.message === "string") return found.message;
  } catch {
    // no JSON: a proxy in between
  }
  return `The server answered ${answer.status} ${answer.statusText}. Its log may say more.`;
}

function askForKey(message) {
  $("key-form").hidden = false;
  $("key-error").textContent = message;
  $("key").focus();
}

function detectorPath(name, rest = "") {
  return `v1/detectors/${encodeURIComponent(name)}${rest}`;
}

/** Show a fault of the whole page as one sentence; nothing takes it away. */
function showProblem(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// ----------------------------------------------------------------------------------- small things

function make(tag, fields = {}, ...children) {
  const node = document.createElement(tag);
  const { data = {}, aria = {}, ...rest } = fields;
  Object.assign(node, rest);
  Object.assign(node.dataset, data);
  for (const [name, value] of Object.entries(aria)) node.setAttribute(`aria-${name}`, value);
  node.append(...children);
  return node;
}

function svg(tag, fields = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(fields)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function icon(name) {
  const drawn = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" });
  drawn.append(svg("use", { href: `#icon-${name}` }));
  return drawn;
}

const iconOf = (verdict) => verdict.replace(" ", "-");
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function say(text) {
  $("live").textContent = text;
}

// ------------------------------------------------------------------------------- the detectors

async function begin() {
  showProblem("");
  try {
    const listed = await (await ask("v1/detectors")).json();
    state.detectors = Array.isArray(listed) ? listed : listed.detectors;
    state.journal = await (await ask("v1/journal")).json();
  } catch (error) {
    if (error.status !== 401) showProblem(error.message);
    return;
  }
  $("key-form").hidden = true;
  document.body.classList.toggle("journal", state.journal.on);
  const chooser = $("detector");
  const before = state.detector;
  chooser.replaceChildren(
    ...state.detectors.map((each) => make("option", { value: each.name, textContent: each.name })),
  );
  chooser.disabled = !state.detectors.length;
  if (!state.detectors.length) {
    showProblem("This service has no detector yet. Make one with `zoo search`, then reload the page.");
    return;
  }
  const known = state.detectors.some((each) => each.name === before);
  await chooseDetector(known ? before : state.detectors[0].name);
  pump();
}

async function chooseDetector(name) {
  state.detector = name;
  $("detector").value = name;
  state.threshold = 1;
  await showDetector(name);
}

/** Show the good scores and the card of a detector, unless another was chosen meanwhile. */
async function showDetector(name) {
  try {
    const [scores, card] = await Promise.all([
      ask(detectorPath(name, "/scores")).then((answer) => answer.json()),
      ask(detectorPath(name)).then((answer) => answer.json()),
    ]);
    if (state.detector !== name) return;
    state.scores = scores;
    showCard(card);
    $("version").textContent = `version ${scores.version}`;
    $("version").title = `digest ${scores.digest}`;
  } catch (error) {
    if (state.detector !== name) return;
    state.scores = null;
    $("version").textContent = "";
    $("card").replaceChildren(make("p", { className: "problem", textContent: error.message }));
  }
  showThreshold();
  refresh();
}

function showCard(card) {
  const sections = card.words ?? [];
  $("card").replaceChildren(
    ...sections.map(({ title, lines }, at) =>
      make(
        "details",
        { open: at === 0 },
        make("summary", { textContent: title }),
        make(
          "dl",
          {},
          ...lines.map(([label, text]) =>
            make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: text })),
          ),
        ),
      ),
    ),
  );
}

// ------------------------------------------------------------------------------------- the queue

function add(files) {
  const added = [...files].map((file) => ({
    id: (state.serial += 1),
    file,
    name: file.name || "picture",
    detector: state.detector,
    stage: "waiting", // then scoring, done or failed
    tries: 0,
    found: null, // what the server answered
    map: null, // the bytes of its PNG
    message: "",
    marks: [],
    answer: null,
    sent: "", // the marks as they were sent, to see whether they have changed
    note: "",
  }));
  if (!added.length) return;
  document.body.classList.remove("empty");
  state.items.push(...added);
  for (const item of added) $("list").append(rowOf(item));
  select(added[0]);
  summarise();
  pump();
}

/** Send the pictures that wait, a few at the same time. */
function pump() {
  if (!state.detector || !$("key-form").hidden) return;
  const busy = state.items.filter((each) => each.stage === "scoring").length;
  const waiting = state.items.filter((each) => each.stage === "waiting");
  for (const item of waiting.slice(0, AT_ONCE - busy)) send(item);
}

async function send(item) {
  item.stage = "scoring";
  item.detector ||= state.detector;
  showRow(item);
  try {
    await score(item);
    item.stage = "done";
    item.message = "";
    dropMaps();
    thumbnail(item);
    await follow(item);
  } catch (error) {
    if (error.status === 401) {
      item.stage = "waiting"; // until the key is there
    } else if ([429, 503].includes(error.status) && item.tries < TRIES) {
      item.tries += 1;
      item.message = `${error.message} It is sent again by itself.`;
      if (item === state.current) refresh();
      await pause(clamp(error.retryAfter || 1, 0.2, 20));
      item.stage = "waiting";
    } else {
      item.stage = "failed";
      item.message = error.message;
    }
  }
  if (!state.items.includes(item)) return; // the list was cleared
  showRow(item);
  summarise();
  if (item === state.current && item.stage !== "waiting") {
    await show(item);
    say(`${item.name}: ${$("verdict").textContent}. ${$("why").textContent}`);
  }
  pump();
}

/** Load the scores and the card again when a new champion has answered. */
async function follow(item) {
  const isNew = state.scores && item.detector === state.detector && !isOwn(item.found);
  if (!isNew || item.found.version <= state.scores.version) return;
  state.threshold = 1;
  await showDetector(item.detector);
  for (const each of state.items) showRow(each);
}

async function score(item) {
  try {
    await item.file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Refusal("This cannot be read. It is a folder, or it was moved or changed since it was chosen.");
  }
  const answer = await ask(detectorPath(item.detector, "/score?map=true"), {
    method: "POST",
    body: item.file,
    headers: { "Content-Type": item.file.type || "application/octet-stream" },
  });
  const { map, ...found } = await answer.json();
  item.found = found;
  item.map = Uint8Array.from(atob(map), (letter) => letter.charCodeAt(0));
}

function dropMaps() {
  const kept = state.items.filter((each) => each.map && each !== state.current);
  for (const item of kept.slice(0, Math.max(0, kept.length - MAPS_KEPT))) item.map = null;
}

/** Return the verdict at the threshold of the page. */
function verdictOf(found) {
  if (!isOwn(found)) return found.verdict;
  if (state.threshold === 1) return found.verdict;
  if (found.score > state.threshold) return "defective";
  const band = found.thresholds.look_again;
  return band < 1 && found.score > band ? "look again" : "good";
}

/** Whether the threshold of the page is one of the detector that gave this answer. */
function isOwn(found) {
  return state.scores !== null && found.digest === state.scores.digest;
}

const thresholdOf = (item) => (item?.found && isOwn(item.found) ? state.threshold : 1);

function rowOf(item) {
  const button = make(
    "button",
    { type: "button", onclick: () => select(item) },
    (item.picture = make("canvas", { className: "thumb", width: 44, height: 44, aria: { hidden: "true" } })),
    make("span", { className: "file", textContent: item.name, title: item.name }),
    (item.chip = make("span", { className: "chip" })),
  );
  item.row = make("li", {}, button);
  item.button = button;
  showRow(item);
  return item.row;
}

function showRow(item) {
  if (!item.chip) return;
  const words = { waiting: "waiting", scoring: "scoring", failed: "not scored" };
  const verdict = item.stage === "done" ? verdictOf(item.found) : item.stage;
  const drawn = { waiting: "wait", scoring: "wait" }[verdict] ?? iconOf(verdict);
  item.chip.dataset.verdict = verdict;
  const text = NOTES[verdict] ?? words[verdict];
  const figure = item.stage === "done" ? make("span", { className: "score", textContent: item.found.score.toFixed(2) }) : "";
  item.chip.replaceChildren(icon(drawn), text, figure);
  const answered = { good: "answered: good", defect: "answered: defect" }[item.answer] ?? "";
  item.row?.classList.toggle("answered-row", Boolean(answered));
  item.button?.setAttribute("aria-description", answered);
}

function summarise() {
  const count = {};
  for (const item of state.items) {
    const key = item.stage === "done" ? verdictOf(item.found) : item.stage;
    count[key] = (count[key] ?? 0) + 1;
  }
  const names = { defective: "defective", "look again": "to look at again", good: "good", failed: "not scored" };
  const parts = Object.entries(names).filter(([key]) => count[key]).map(([key, text]) => `${count[key]} ${text}`);
  const left = (count.waiting ?? 0) + (count.scoring ?? 0);
  if (left) parts.push(`${left} to come`);
  $("summary").textContent = state.items.length ? `${plural(state.items.length, "picture")}: ${parts.join(", ")}.` : "";
}

/** Draw the small picture of the list, if the browser can; else it is drawn when it is shown. */
async function thumbnail(item) {
  if (item.thumbnail) return;
  try {
    const bitmap = await createImageBitmap(item.file, { resizeWidth: 88, resizeQuality: "medium" });
    drawThumbnail(item, bitmap);
    bitmap.close();
  } catch {
    // a format that this browser does not know; a preview for each would keep the server busy
  }
}

function drawThumbnail(item, bitmap) {
  const side = Math.min(bitmap.width, bitmap.height);
  const context = item.picture.getContext("2d");
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, 44, 44);
  item.thumbnail = true;
}

/** Return the file, or the server's preview of it where a browser would not draw all of it. */
async function drawable(item) {
  if (item.preview) return item.preview;
  const start = new Uint8Array(await item.file.slice(0, 32).arrayBuffer());
  const isPng = start[0] === 0x89 && start[1] === 0x50;
  const isDeep = isPng && start[24] === 16;
  if (!isDeep) {
    try {
      const bitmap = await createImageBitmap(item.file);
      const fits = bitmap.width === item.found.width && bitmap.height === item.found.height;
      bitmap.close();
      if (fits) return item.file;
    } catch {
      // TIFF, or another format that this browser does not know
    }
  }
  const answer = await ask("v1/preview", { method: "POST", body: item.file });
  item.preview = await answer.blob();
  return item.preview;
}

function select(item) {
  if (state.current && state.current !== item) state.current.preview = null;
  state.current = item;
  for (const each of state.items) each.button.removeAttribute("aria-current");
  item.button.setAttribute("aria-current", "true");
  item.row.scrollIntoView({ block: "nearest" });
  show(item);
}

function step(by) {
  if (!state.items.length) return;
  const at = clamp(state.items.indexOf(state.current) + by, 0, state.items.length - 1);
  const inList = $("list").contains(document.activeElement);
  select(state.items[at]);
  if (inList) state.current.button.focus();
}

/** Send all pictures again, to the detector that is chosen now. */
function scoreAgain() {
  for (const item of state.items) {
    if (item.stage === "scoring") continue;
    Object.assign(item, { stage: "waiting", detector: state.detector, tries: 0, found: null, map: null, message: "" });
    Object.assign(item, { answer: null, sent: "", note: "", wrong: false });
    showRow(item);
  }
  stage.forget();
  summarise();
  refresh();
  pump();
}

function clearList() {
  state.items = [];
  state.current = null;
  $("list").replaceChildren();
  stage.forget();
  document.body.classList.add("empty");
  summarise();
  refresh();
  $("choose").focus();
}

// ------------------------------------------------------------------------------------ the result

/** Show a picture with what was said of it. */
async function show(item) {
  stage.forget();
  refresh();
  if (item.stage !== "done") return;
  try {
    if (!item.map) await score(item);
    const source = await drawable(item);
    const [picture, map] = await Promise.all([
      createImageBitmap(source),
      createImageBitmap(new Blob([item.map], { type: "image/png" }), { colorSpaceConversion: "none" }),
    ]);
    if (item !== state.current) return;
    if (!item.thumbnail) drawThumbnail(item, picture);
    stage.take(item, picture, map);
    refresh();
  } catch (error) {
    if (item === state.current) $("why").textContent = error.message;
  }
}

/** Bring all that depends on the picture, its answer and the threshold up to date. */
function refresh() {
  const item = state.current;
  showVerdict(item);
  showWarnings(item);
  $("work").hidden = item?.stage !== "done";
  $("regions-panel").hidden = item?.stage !== "done";
  $("answer").hidden = item?.stage !== "done" || !state.journal.on;
  stage.change(thresholdOf(item));
  showRegions(item);
  showAnswer(item);
  drawHistogram();
}

function showVerdict(item) {
  const done = item?.stage === "done";
  const verdict = done ? verdictOf(item.found) : (item?.stage ?? "none");
  const words = { waiting: "Waiting", scoring: "Scoring", failed: "Not scored", none: "No picture yet" };
  $("banner").dataset.verdict = verdict;
  $("verdict").textContent = NOTES[verdict] ?? words[verdict];
  const drawn = { waiting: "wait", scoring: "wait", none: "wait" }[verdict] ?? iconOf(verdict);
  $("verdict-icon").setAttribute("href", `#icon-${drawn}`);
  $("name").textContent = item ? item.name : "";
  $("why").textContent = done ? whyOf(item.found) : (item?.message ?? "");
}

function whyOf(found) {
  const limit = isOwn(found) ? state.threshold : 1;
  const side = found.score > limit ? "above" : "below";
  const own = limit === 1 ? "the threshold of 1" : `your threshold of ${limit.toFixed(2)}; the detector’s is 1`;
  const parts = [`Score ${found.score.toFixed(2)}, ${side} ${own}.`];
  if (found.p_value !== null && found.p_value !== undefined) {
    const share = Math.max(1, Math.round(100 * found.p_value));
    parts.push(`Of 100 good pictures, ${found.p_value < 0.01 ? "fewer than 1" : `about ${share}`} would score as high.`);
  }
  if (!isOwn(found)) parts.push(`By ${found.name}, version ${found.version}.`);
  return parts.join(" ");
}

function showWarnings(item) {
  const lines = item?.found?.warnings ?? [];
  $("warnings").replaceChildren(...lines.map((line) => make("li", {}, icon("look-again"), make("span", { textContent: line }))));
  $("warnings").hidden = !lines.length;
}

function showRegions(item) {
  const regions = item?.stage === "done" ? stage.regions() : [];
  const exact = thresholdOf(item) === 1;
  $("regions-scroll").hidden = !regions.length;
  $("no-regions").hidden = Boolean(regions.length) || !item;
  const alarm = item?.stage === "done" && verdictOf(item.found) !== "good";
  $("no-regions").textContent = `${alarm ? "The picture as a whole scores high, and no single place does: nothing" : "Nothing"} is above the threshold of pixels.`;
  const rows = regions.slice(0, 100).map((each, at) => {
    const peak = !exact && each.peak >= 1.98 ? "≥ 2" : each.peak.toFixed(2);
    const to = make("button", {
      type: "button",
      className: "plain",
      textContent: at + 1,
      onclick: () => stage.zoomTo(each),
      aria: { label: `Zoom to region ${at + 1}` },
    });
    const row = make("tr", {}, make("td", {}, to));
    for (const text of [peak, `${each.area.toLocaleString("en")} px`, `${each.top}, ${each.left}`, `${each.height} × ${each.width}`]) {
      row.append(make("td", { textContent: text }));
    }
    row.onmouseenter = () => stage.point(at);
    row.onmouseleave = () => stage.point(-1);
    to.onfocus = row.onmouseenter;
    to.onblur = row.onmouseleave;
    return row;
  });
  $("regions").tBodies[0].replaceChildren(...rows);
}

// ---------------------------------------------------------------------------------- the threshold

function showThreshold() {
  const row = state.scores?.thresholds;
  const slider = $("threshold");
  slider.disabled = !row;
  $("threshold-reset").hidden = state.threshold === 1;
  if (!row) {
    $("alarms-number").textContent = "";
    $("alarms-text").textContent = "";
    $("threshold-note").textContent = state.scores
      ? "This detector carries no scores of good pictures, so its threshold cannot be moved here. `zoo recalibrate` adds them."
      : "";
    drawHistogram();
    return;
  }
  slider.max = row.length - 1;
  slider.value = row.findIndex((each) => each.threshold === state.threshold);
  const { false_alarms: alarms } = row[slider.value];
  $("alarms-number").textContent = alarmsOf(alarms);
  $("alarms-text").textContent = `${alarms === 1 ? "false alarm" : "false alarms"} expected in 1,000 good pictures`;
  slider.setAttribute(
    "aria-valuetext",
    `${state.threshold.toFixed(2)}: ${alarmsOf(alarms)} false alarms in 1,000 good pictures`,
  );
  $("threshold-note").textContent = noteOf(state.scores);
  drawHistogram();
}

function alarmsOf(alarms) {
  if (alarms < 0.1) return "< 0.1";
  return alarms < 10 ? alarms.toFixed(1).replace(/\.0$/, "") : Math.round(alarms).toLocaleString("en");
}

function noteOf(scores) {
  const pictures = plural(scores.pictures, "score");
  const own = scores.independent < scores.pictures ? ` of ${plural(scores.independent, "independent picture")}` : "";
  const from = `${pictures}${own}${scores.varied ? ", under varied light and focus," : ""}`;
  if (scores.rule === "conformal") {
    const least = alarmsOf(1000 / (scores.independent + 1));
    return `By rank among ${from} that were not trained on. So few cannot promise less than ${least}.`;
  }
  return `From ${from} as if they were normally distributed: a rough figure. The card says how far off it may be.`;
}

function moveThreshold(to) {
  state.threshold = to;
  showThreshold();
  for (const item of state.items) showRow(item);
  summarise();
  refresh();
}

/** Draw the good scores over the slider, whose thumb is 18 pixels wide. */
function drawHistogram() {
  const place = $("histogram");
  const known = state.scores?.histogram;
  if (!known) {
    place.replaceChildren();
    return;
  }
  const [width, height, inset, ground] = [Math.max(120, place.clientWidth), 112, 9, 92];
  const row = state.scores.thresholds;
  const [low, high] = [row[0].threshold, row[row.length - 1].threshold];
  const at = (value) => inset + ((clamp(value, low, high) - low) / (high - low)) * (width - 2 * inset);
  const most = Math.max(...known.counts, 1);
  const drawn = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": `Histogram of ${state.scores.pictures} scores of good pictures, from ${low.toFixed(2)} to ${high.toFixed(2)}`,
  });
  const limit = at(state.threshold);
  drawn.append(svg("rect", { class: "beyond", x: limit, y: 0, width: Math.max(0, width - inset - limit), height: ground }));
  known.counts.forEach((count, bin) => {
    if (!count) return;
    const [left, right] = [at(known.edges[bin]), at(known.edges[bin + 1])];
    const tall = Math.max(2, (count / most) * (ground - 22));
    drawn.append(svg("rect", { class: "bin", x: left + 0.5, y: ground - tall, width: Math.max(1, right - left - 1), height: tall }));
  });
  drawn.append(svg("line", { class: "ground", x1: inset, x2: width - inset, y1: ground, y2: ground }));
  if (state.threshold !== 1) {
    drawn.append(svg("line", { class: "own-limit", x1: at(1), x2: at(1), y1: 14, y2: ground }));
  }
  drawn.append(svg("line", { class: "limit", x1: limit, x2: limit, y1: 0, y2: ground }));
  const found = state.current?.found;
  if (found && isOwn(found)) {
    const x = at(found.score);
    drawn.append(svg("path", { class: "here", d: `M${x} ${ground - 1}l-6 -11h12z` }));
    const anchor = x > width - 60 ? "end" : x < 60 ? "start" : "middle";
    const beyond = found.score > high ? " →" : "";
    drawn.append(svg("text", { class: "here-text", x, y: ground - 16, "text-anchor": anchor }, `this one ${found.score.toFixed(2)}${beyond}`));
  }
  for (const [value, anchor] of [[low, "start"], [high, "end"]]) {
    drawn.append(svg("text", { class: "tick", x: at(value), y: height - 5, "text-anchor": anchor }, value.toFixed(2)));
  }
  drawn.append(svg("text", { class: "tick strong", x: clamp(limit, 40, width - 40), y: height - 5, "text-anchor": "middle" }, state.threshold.toFixed(2)));
  place.replaceChildren(drawn);
}

// -------------------------------------------------------------------------------------- the stage

/** The canvas: picture, heat map, outline of the mask, boxes, and what the person marks. */
const stage = {
  item: null,
  picture: null,
  values: null, // the map, reduced if it is large
  peaks: null, // the highest value near each of its pixels, once it is asked for
  width: 0, // of the reduced map
  height: 0,
  ratio: 1, // of the reduced map to the picture
  threshold: 1,
  heat: document.createElement("canvas"),
  marked: document.createElement("canvas"),
  outline: null,
  found: [],
  pointed: -1,
  view: { zoom: 1, x: 0, y: 0 }, // the middle, in pixels of the picture
  cross: null, // of the keyboard, in pixels of the picture
  begun: null, // a box or a stroke that is being drawn
  wanted: false,

  forget() {
    this.picture?.close();
    Object.assign(this, { item: null, picture: null, values: null, peaks: null, found: [], outline: null, cross: null, begun: null });
    this.pointed = -1;
    $("work").setAttribute("aria-busy", "true");
  },

  take(item, picture, map) {
    this.forget();
    this.item = item;
    this.picture = picture;
    this.ratio = Math.min(1, Math.sqrt(WORKING_PIXELS / (map.width * map.height)));
    this.width = Math.max(1, Math.round(map.width * this.ratio));
    this.height = Math.max(1, Math.round(map.height * this.ratio));
    const canvas = make("canvas", { width: this.width, height: this.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(map, 0, 0, this.width, this.height);
    map.close();
    const pixels = context.getImageData(0, 0, this.width, this.height).data;
    this.values = new Uint8Array(this.width * this.height);
    for (let at = 0; at < this.values.length; at += 1) this.values[at] = pixels[4 * at];
    for (const each of [this.heat, this.marked]) Object.assign(each, { width: this.width, height: this.height });
    this.threshold = NaN;
    this.view = { zoom: 1, x: picture.width / 2, y: picture.height / 2 };
    this.drawMarks();
    this.fit();
    $("work").setAttribute("aria-busy", "false");
  },

  /** Draw heat map and mask anew for a threshold. */
  change(threshold) {
    if (!this.values || threshold === this.threshold) {
      this.ask();
      return;
    }
    this.threshold = threshold;
    const image = new ImageData(this.width, this.height);
    const colours = heatColours(threshold);
    const words = new Uint32Array(image.data.buffer);
    for (let at = 0; at < words.length; at += 1) words[at] = colours[this.values[at]];
    this.heat.getContext("2d").putImageData(image, 0, 0);
    const limit = MIDDLE * threshold;
    const above = Uint8Array.from(this.values, (value) => (value >= limit ? 1 : 0));
    const mask = this.outlined(above);
    this.outline = outlineOf(mask, this.width, this.height);
    this.found = threshold === 1 ? this.item.found.regions : this.regionsOf(above, mask);
    this.ask();
  },

  /** Return which of the pixels above the threshold are not far below the peak near them. */
  outlined(above) {
    const share = this.item.found.thresholds.share_of_peak ?? 0;
    if (!share) return above;
    this.peaks ??= peaksOf(this.values, this.width, this.height, Math.max(1, Math.round(REACH * this.ratio)));
    return above.map((each, at) => (each && this.values[at] >= share * this.peaks[at] ? 1 : 0));
  },

  regions() {
    return this.found;
  },

  regionsOf(above, mask) {
    const smallest = this.item.found.thresholds.smallest_region * this.ratio ** 2;
    const scale = (value) => Math.round(value / this.ratio);
    return connected(above, mask, this.values, this.width, this.height)
      .filter((each) => each.above >= smallest && each.area)
      .sort((one, other) => other.peak - one.peak)
      .map((each) => ({
        top: scale(each.top),
        left: scale(each.left),
        height: Math.max(1, scale(each.bottom - each.top + 1)),
        width: Math.max(1, scale(each.right - each.left + 1)),
        area: Math.max(1, Math.round(each.area / this.ratio ** 2)),
        peak: each.peak / MIDDLE,
      }));
  },

  point(at) {
    this.pointed = at;
    this.ask();
  },

  /** Set the size of the canvas, which empties it, to that of its place, and draw at once. */
  fit() {
    if (!this.picture) return;
    const canvas = $("canvas");
    const room = $("stage").clientWidth;
    const tallest = Math.max(260, Math.min(window.innerHeight * 0.56, 900));
    const height = Math.min(tallest, (room * this.picture.height) / this.picture.width);
    canvas.style.height = `${Math.round(height)}px`;
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.round(room * dense);
    canvas.height = Math.round(height * dense);
    this.draw();
  },

  scale() {
    const canvas = $("canvas");
    return Math.min(canvas.width / this.picture.width, canvas.height / this.picture.height) * this.view.zoom;
  },

  /** Keep the picture in sight. */
  settle() {
    const canvas = $("canvas");
    const scale = this.scale();
    for (const [axis, size, seen] of [["x", this.picture.width, canvas.width / scale], ["y", this.picture.height, canvas.height / scale]]) {
      this.view[axis] = seen >= size ? size / 2 : clamp(this.view[axis], seen / 2, size - seen / 2);
    }
  },

  zoom(times) {
    if (!this.picture) return;
    this.view.zoom = times ? clamp(this.view.zoom * times, 1, 40) : 1;
    if (this.cross && times > 1) Object.assign(this.view, this.cross);
    this.ask();
  },

  zoomTo(region) {
    if (!this.picture) return;
    const side = Math.max(region.width / this.picture.width, region.height / this.picture.height, 0.02);
    this.view = { zoom: clamp(0.4 / side, 1, 40), x: region.left + region.width / 2, y: region.top + region.height / 2 };
    this.ask();
  },

  pan(x, y) {
    this.view.x += x;
    this.view.y += y;
    this.ask();
  },

  /** Return the place in the picture that a pointer is at. */
  placeOf(event) {
    const canvas = $("canvas");
    const box = canvas.getBoundingClientRect();
    const scale = this.scale();
    return {
      x: clamp(((event.clientX - box.left) * (canvas.width / box.width) - canvas.width / 2) / scale + this.view.x, 0, this.picture.width),
      y: clamp(((event.clientY - box.top) * (canvas.height / box.height) - canvas.height / 2) / scale + this.view.y, 0, this.picture.height),
    };
  },

  ask() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => {
      this.wanted = false;
      this.draw();
    });
  },

  draw() {
    const canvas = $("canvas");
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.picture) return;
    this.settle();
    const scale = this.scale();
    const { width, height } = this.picture;
    context.setTransform(scale, 0, 0, scale, canvas.width / 2 - this.view.x * scale, canvas.height / 2 - this.view.y * scale);
    context.imageSmoothingEnabled = this.view.zoom === 1 || scale < 3; // zoomed in, show the pixels
    context.drawImage(this.picture, 0, 0, width, height);
    context.globalAlpha = $("opacity").value / 100;
    context.drawImage(this.heat, 0, 0, width, height);
    context.globalAlpha = 1;
    const one = Math.min(window.devicePixelRatio || 1, 2) / scale; // a pixel of the screen
    if ($("show-outline").checked && this.outline) {
      context.save();
      context.scale(width / this.width, height / this.height);
      this.stroke(context, this.outline, one * (this.width / width), "#ff2d2d", 1.6);
      context.restore();
    }
    if ($("show-boxes").checked) this.found.slice(0, 100).forEach((each, at) => this.drawRegion(context, each, at, one));
    context.globalAlpha = 0.45;
    context.drawImage(this.marked, 0, 0, width, height);
    context.globalAlpha = 1;
    this.drawBegun(context, one);
    if (this.cross && document.activeElement === canvas) this.drawCross(context, one);
  },

  stroke(context, path, one, colour, thick) {
    context.lineJoin = "round";
    context.strokeStyle = "rgb(0 0 0 / 60%)";
    context.lineWidth = one * (thick + 1.6);
    context.stroke(path);
    context.strokeStyle = colour;
    context.lineWidth = one * thick;
    context.stroke(path);
  },

  drawRegion(context, region, at, one) {
    const path = new Path2D();
    const gap = 3 * one;
    path.rect(region.left - gap, region.top - gap, region.width + 2 * gap, region.height + 2 * gap);
    this.stroke(context, path, one, at === this.pointed ? "#ffd54a" : "#ffffff", at === this.pointed ? 3 : 1.4);
    const text = `${at + 1}`;
    context.font = `600 ${12 * one}px system-ui, sans-serif`;
    const wide = context.measureText(text).width + 8 * one;
    const left = clamp(region.left - gap, 0, this.picture.width - wide);
    const top = region.top - gap - 17 * one > 0 ? region.top - gap - 17 * one : region.top - gap;
    context.fillStyle = "rgb(0 0 0 / 78%)";
    context.fillRect(left, top, wide, 16 * one);
    context.fillStyle = "#ffffff";
    context.fillText(text, left + 4 * one, top + 12 * one);
  },

  drawBegun(context, one) {
    const begun = this.begun;
    if (!begun) return;
    if (begun.kind === "box") {
      const box = boxOf(begun);
      const path = new Path2D();
      path.rect(box.left, box.top, box.width, box.height);
      this.stroke(context, path, one, "#4fc3ff", 2);
    } else {
      context.globalAlpha = 0.45;
      drawStroke(context, begun, begun.kind === "erase" ? "#ffffff" : "#19b6ff");
      context.globalAlpha = 1;
    }
  },

  drawCross(context, one) {
    const path = new Path2D();
    const [x, y, arm] = [this.cross.x, this.cross.y, 14 * one];
    path.moveTo(x - arm, y);
    path.lineTo(x + arm, y);
    path.moveTo(x, y - arm);
    path.lineTo(x, y + arm);
    if (["brush", "erase"].includes(tool())) {
      const radius = brushSize() / 2;
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 2 * Math.PI);
    }
    this.stroke(context, path, one, "#4fc3ff", 2);
  },

  drawMarks() {
    if (!this.item) return;
    const context = this.marked.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.setTransform(this.width / this.picture.width, 0, 0, this.height / this.picture.height, 0, 0);
    drawMarks(context, this.item.marks, "#19b6ff");
    this.ask();
  },
};

/** Return for each value of a map its colour and opacity, as one number of four bytes. */
function heatColours(threshold) {
  const bytes = new Uint8ClampedArray(1024);
  const reach = Math.max(Math.abs(threshold), 0.05);
  for (let value = 0; value < 256; value += 1) {
    const heat = clamp((value / MIDDLE - threshold) / (2 * reach) + 0.5, 0, 1);
    const place = heat * (INFERNO.length - 1);
    const [low, rest] = [Math.floor(place), place - Math.floor(place)];
    const high = Math.min(low + 1, INFERNO.length - 1);
    for (let channel = 0; channel < 3; channel += 1) {
      bytes[4 * value + channel] = INFERNO[low][channel] * (1 - rest) + INFERNO[high][channel] * rest;
    }
    bytes[4 * value + 3] = 255 * clamp(2 * heat - 0.4, 0, 1);
  }
  return new Uint32Array(bytes.buffer);
}

/** Return the lines between what is in a mask and what is not, in its pixels. */
function outlineOf(mask, width, height) {
  const path = new Path2D();
  const inside = (row, column) => row >= 0 && row < height && column >= 0 && column < width && mask[row * width + column] === 1;
  const lines = (long, short, differs, put) => {
    for (let across = 0; across <= short; across += 1) {
      let begin = -1;
      for (let along = 0; along <= long; along += 1) {
        const edge = along < long && differs(across, along);
        if (edge && begin < 0) begin = along;
        if (!edge && begin >= 0) {
          put(across, begin, along);
          begin = -1;
        }
      }
    }
  };
  lines(width, height, (row, column) => inside(row - 1, column) !== inside(row, column), (row, from, to) => {
    path.moveTo(from, row);
    path.lineTo(to, row);
  });
  lines(height, width, (column, row) => inside(row, column - 1) !== inside(row, column), (column, from, to) => {
    path.moveTo(column, from);
    path.lineTo(column, to);
  });
  return path;
}

/** Return the highest value of the square around each pixel, `reach` pixels to each side. */
function peaksOf(values, width, height, reach) {
  const highest = (from, lines, length, across, along) => {
    const found = new Uint8Array(from.length);
    for (let line = 0; line < lines; line += 1) {
      for (let at = 0; at < length; at += 1) {
        let most = 0;
        const last = Math.min(length - 1, at + reach);
        for (let near = Math.max(0, at - reach); near <= last; near += 1) {
          most = Math.max(most, from[line * across + near * along]);
        }
        found[line * across + at * along] = most;
      }
    }
    return found;
  };
  return highest(highest(values, height, width, width, 1), width, height, 1, width);
}

/** Return what a mask has of connected pixels above a threshold; diagonal neighbours are connected. */
function connected(above, mask, values, width, height) {
  const left = Uint8Array.from(above);
  const found = [];
  for (let start = 0; start < left.length; start += 1) {
    if (!left[start]) continue;
    const part = { top: height, left: width, bottom: 0, right: 0, above: 0, area: 0, peak: 0 };
    const stack = [start];
    left[start] = 0;
    while (stack.length) {
      const at = stack.pop();
      const [row, column] = [Math.floor(at / width), at % width];
      part.above += 1;
      if (mask[at]) {
        part.area += 1;
        part.peak = Math.max(part.peak, values[at]);
        part.top = Math.min(part.top, row);
        part.bottom = Math.max(part.bottom, row);
        part.left = Math.min(part.left, column);
        part.right = Math.max(part.right, column);
      }
      for (let r = Math.max(0, row - 1); r <= Math.min(height - 1, row + 1); r += 1) {
        for (let c = Math.max(0, column - 1); c <= Math.min(width - 1, column + 1); c += 1) {
          if (left[r * width + c]) {
            left[r * width + c] = 0;
            stack.push(r * width + c);
          }
        }
      }
    }
    found.push(part);
  }
  return found;
}

// -------------------------------------------------------------------------------- marks of a person

const tool = () => document.querySelector('input[name="tool"]:checked').value;

/** Return the width of the brush in pixels of the picture. */
function brushSize() {
  const side = stage.picture ? Math.max(stage.picture.width, stage.picture.height) : 512;
  return Math.max(1, Math.round((side * $("brush").value) / 200));
}

/** Return whole pixels: those that the rectangle between two places touches. */
function boxOf({ from, to }) {
  const [left, top] = [Math.floor(Math.min(from.x, to.x)), Math.floor(Math.min(from.y, to.y))];
  const [right, bottom] = [Math.ceil(Math.max(from.x, to.x)), Math.ceil(Math.max(from.y, to.y))];
  return { top, left, height: Math.max(1, bottom - top), width: Math.max(1, right - left) };
}

function drawStroke(context, stroke, colour) {
  context.strokeStyle = colour;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.lineWidth = stroke.size;
  context.beginPath();
  context.moveTo(stroke.points[0].x, stroke.points[0].y);
  for (const point of stroke.points) context.lineTo(point.x, point.y);
  context.stroke();
}

function drawMarks(context, marks, colour) {
  for (const mark of marks) {
    context.globalCompositeOperation = mark.kind === "erase" ? "destination-out" : "source-over";
    context.fillStyle = colour;
    if (mark.kind === "box") context.fillRect(mark.box.left, mark.box.top, mark.box.width, mark.box.height);
    else drawStroke(context, mark, colour);
  }
  context.globalCompositeOperation = "source-over";
}

function beginMark(place) {
  const kind = tool();
  if (kind === "move" || !stage.picture) return;
  stage.begun = kind === "box" ? { kind, from: place, to: place } : { kind, size: brushSize(), points: [place] };
  stage.ask();
}

function goOnMark(place) {
  if (!stage.begun) return;
  if (stage.begun.kind === "box") stage.begun.to = place;
  else stage.begun.points.push(place);
  stage.ask();
}

function endMark() {
  const begun = stage.begun;
  stage.begun = null;
  if (!begun || !stage.item) return;
  if (begun.kind === "box") {
    const box = boxOf(begun);
    box.height = Math.min(box.height, stage.picture.height - box.top);
    box.width = Math.min(box.width, stage.picture.width - box.left);
    if (box.height > 0 && box.width > 0 && box.height * box.width > 1) addMarks([{ kind: "box", box }]);
  } else {
    addMarks([begun]);
  }
  stage.ask();
}

function addMarks(marks) {
  stage.item.marks.push(...marks);
  stage.drawMarks();
  showAnswer(stage.item);
}

function undoMark() {
  if (!stage.item?.marks.length) return;
  stage.item.marks.pop();
  stage.drawMarks();
  showAnswer(stage.item);
}

/** Return what the marks cover: boxes as they are, unless something was painted or erased. */
async function regionOf(item) {
  const boxes = item.marks.filter((mark) => mark.kind === "box").map((mark) => mark.box);
  const erased = item.marks.some((mark) => mark.kind === "erase");
  const painted = item.marks.filter((mark) => mark.kind !== "box");
  if (!painted.length) return boxes.length ? { boxes } : {};
  const { width, height } = item.found;
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  drawMarks(context, erased ? item.marks : painted, "#ffffff");
  const image = context.getImageData(0, 0, width, height);
  const words = new Uint32Array(image.data.buffer);
  let count = 0;
  for (let at = 0; at < words.length; at += 1) {
    const inside = image.data[4 * at + 3] >= 128;
    count += inside;
    words[at] = inside ? 0xffffffff : 0xff000000;
  }
  const rest = erased || !boxes.length ? {} : { boxes };
  if (!count) return rest;
  context.putImageData(image, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return { ...rest, mask: await base64Of(blob) };
}

function base64Of(blob) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => fail(new Refusal("The marks cannot be sent: this browser has no room for them."));
    reader.readAsDataURL(blob);
  });
}

/** Send the answer of the person, then the picture if the journal keeps pictures. */
async function answer(said) {
  const item = state.current;
  if (item?.stage !== "done" || !state.journal.on || item.sending) return;
  const { found } = item;
  item.sending = true;
  try {
    const sent = JSON.stringify(item.marks);
    const region = said === "defect" ? await regionOf(item) : {};
    const about = {
      picture: found.picture,
      file: item.name.slice(0, 255),
      height: found.height,
      width: found.width,
      detector: item.detector,
      version: found.version,
      digest: found.digest,
      said: { verdict: verdictOf(found), score: found.score, threshold: thresholdOf(item), p_value: found.p_value },
      answer: said,
      ...region,
    };
    const kept = await (
      await ask(detectorPath(item.detector, "/marks"), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(about),
      })
    ).json();
    item.answer = said === "withdrawn" ? null : said;
    item.sent = sent;
    item.note = noteOfAnswer(said, region);
    if (kept.send_picture && said !== "withdrawn") {
      const path = detectorPath(item.detector, `/marks/${found.picture}`);
      const { removed } = await (await ask(path, { method: "PUT", body: item.file })).json();
      item.note += removed
        ? ` The picture is kept; ${plural(removed, "older picture")} had to go, because the journal is full.`
        : " The picture is kept with it.";
    }
    item.wrong = false;
  } catch (error) {
    item.wrong = true;
    item.note = item.answer === said ? `${item.note} But: ${error.message}` : error.message;
  } finally {
    item.sending = false;
  }
  showRow(item);
  if (item === state.current) showAnswer(item);
}

function noteOfAnswer(said, region) {
  if (said === "withdrawn") return "Your answer is taken back.";
  if (said === "good") return "In the journal: good.";
  const parts = [];
  if (region.boxes) parts.push(plural(region.boxes.length, "box", "boxes"));
  if (region.mask) parts.push("what you painted");
  return `In the journal: a defect${parts.length ? `, with ${parts.join(" and ")}` : ""}.`;
}

function showAnswer(item) {
  if (!item) return;
  for (const [id, said] of [["say-good", "good"], ["say-defect", "defect"]]) {
    $(id).setAttribute("aria-pressed", String(item.answer === said));
  }
  $("say-nothing").hidden = !item.answer;
  const count = item.marks.length;
  $("drawn").textContent = count ? plural(count, "mark") : "No marks";
  $("undo").disabled = $("erase-all").disabled = !count;
  $("take-regions").disabled = !stage.found.length;
  const changed = item.answer === "defect" && item.sent !== JSON.stringify(item.marks);
  $("answered").textContent = changed ? "The marks have changed. Say “defect” again to send them." : item.note;
  $("answered").classList.toggle("problem", Boolean(item.wrong) && !changed);
}

function setTool(name) {
  if (name !== "move" && !state.journal.on) return;
  document.querySelector(`input[name="tool"][value="${name}"]`).checked = true;
  toolChanged();
}

function toolChanged() {
  const name = tool();
  stage.begun = null;
  $("canvas").dataset.tool = name;
  $("brush-row").hidden = !["brush", "erase"].includes(name);
  $("canvas-hint").textContent = {
    move: "Drag to move the picture when it is zoomed in. With the keyboard: arrows, + and −.",
    box: "Drag a box around the defect. With the keyboard: arrows, Space at one corner, Space at the other.",
    brush: "Paint over the defect. With the keyboard: Space puts the brush down, arrows paint, Space lifts it.",
    erase: "Paint over marks to remove them. With the keyboard: Space, arrows, Space.",
  }[name];
  showBrush();
  stage.ask();
}

function showBrush() {
  $("brush-out").textContent = `${brushSize()} px`;
}

// ------------------------------------------------------------------------------------ the keyboard

function canvasKey(event) {
  if (!stage.picture) return;
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (by) {
    event.preventDefault();
    const far = event.shiftKey ? 1 : Math.max(1, Math.max(stage.picture.width, stage.picture.height) / stage.view.zoom / 48);
    if (tool() === "move") {
      stage.pan(by[0] * far, by[1] * far);
      return;
    }
    const cross = stage.cross ?? { x: Math.round(stage.view.x), y: Math.round(stage.view.y) };
    stage.cross = {
      x: clamp(Math.round(cross.x + by[0] * far), 0, stage.picture.width),
      y: clamp(Math.round(cross.y + by[1] * far), 0, stage.picture.height),
    };
    goOnMark(stage.cross);
    stage.ask();
  } else if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    if (tool() === "move") return;
    stage.cross ??= { x: Math.round(stage.view.x), y: Math.round(stage.view.y) };
    if (stage.begun) endMark();
    else beginMark(stage.cross);
  } else if (event.key === "Escape" && stage.begun) {
    event.preventDefault();
    stage.begun = null;
    stage.ask();
  }
}

const KEYS = {
  o: () => $("files").click(),
  j: () => step(1),
  k: () => step(-1),
  h: () => toggleHeat(),
  r: () => toggleRegions(),
  t: () => $("threshold").focus(),
  c: () => $("canvas").focus(),
  "+": () => stage.zoom(1.5),
  "=": () => stage.zoom(1.5),
  "-": () => stage.zoom(1 / 1.5),
  0: () => stage.zoom(0),
  m: () => setTool("move"),
  b: () => setTool("box"),
  p: () => setTool("brush"),
  e: () => setTool("erase"),
  g: () => answer("good"),
  d: () => answer("defect"),
  z: () => undoMark(),
  "?": () => $("help").showModal(),
};

function pageKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (!$("keys-on").checked || $("help").open) return;
  const writes = event.target.closest("select, input:not([type=range], [type=radio], [type=checkbox])");
  const act = KEYS[event.key.toLowerCase()];
  if (writes || !act) return;
  event.preventDefault();
  act();
}

let lastOpacity = 55;

function toggleHeat() {
  const slider = $("opacity");
  if (Number(slider.value)) lastOpacity = slider.value;
  slider.value = Number(slider.value) ? 0 : lastOpacity;
  showOpacity();
}

function showOpacity() {
  $("opacity-out").textContent = `${$("opacity").value} %`;
  stage.ask();
}

function toggleRegions() {
  const on = !($("show-outline").checked || $("show-boxes").checked);
  $("show-outline").checked = $("show-boxes").checked = on;
  stage.ask();
}

// ------------------------------------------------------------------------------------------ wiring

function wirePictures() {
  const drop = document.body;
  const input = $("files");
  $("choose").onclick = () => input.click();
  input.onchange = () => {
    add(input.files);
    input.value = "";
  };
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    drop.classList.toggle("over", depth > 0);
  };
  drop.addEventListener("dragenter", (event) => {
    event.preventDefault();
    over(1);
  });
  drop.addEventListener("dragleave", () => over(-1));
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
  $("clear").onclick = clearList;
  $("again").onclick = scoreAgain;
}

function wireCanvas() {
  const canvas = $("canvas");
  let last = null;
  canvas.onpointerdown = (event) => {
    if (event.button !== 0 || !stage.picture) return;
    const place = stage.placeOf(event);
    if (tool() !== "move") beginMark(place);
    else if (stage.view.zoom === 1) return;
    canvas.setPointerCapture(event.pointerId);
    last = event;
  };
  canvas.onpointermove = (event) => {
    if (!last || !stage.picture) return;
    if (tool() === "move") {
      const dense = canvas.width / canvas.clientWidth / stage.scale();
      stage.pan((last.clientX - event.clientX) * dense, (last.clientY - event.clientY) * dense);
    } else {
      goOnMark(stage.placeOf(event));
    }
    last = event;
  };
  canvas.onpointerup = canvas.onpointercancel = () => {
    if (last && tool() !== "move") endMark();
    last = null;
  };
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && stage.view.zoom === 1) return; // the page scrolls
      event.preventDefault();
      if (event.ctrlKey) stage.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
      else stage.pan(event.deltaX / stage.scale(), event.deltaY / stage.scale());
    },
    { passive: false },
  );
  canvas.onkeydown = canvasKey;
  canvas.onfocus = canvas.onblur = () => stage.ask();
  $("zoom-in").onclick = () => stage.zoom(1.5);
  $("zoom-out").onclick = () => stage.zoom(1 / 1.5);
  $("zoom-fit").onclick = () => stage.zoom(0);
  $("opacity").oninput = showOpacity;
  $("brush").oninput = showBrush;
  $("show-outline").onchange = $("show-boxes").onchange = () => stage.ask();
  for (const each of document.querySelectorAll('input[name="tool"]')) each.onchange = toolChanged;
  new ResizeObserver(() => {
    stage.fit();
    drawHistogram();
  }).observe(document.querySelector("main"));
}

function wireAnswers() {
  $("say-good").onclick = () => answer("good");
  $("say-defect").onclick = () => answer("defect");
  $("say-nothing").onclick = () => answer("withdrawn");
  $("undo").onclick = undoMark;
  $("erase-all").onclick = () => {
    stage.item.marks = [];
    stage.drawMarks();
    showAnswer(stage.item);
  };
  $("take-regions").onclick = () => {
    const boxes = stage.found.slice(0, 100).map(({ top, left, height, width }) => ({ kind: "box", box: { top, left, height, width } }));
    addMarks(boxes);
  };
}

function wireRest() {
  $("detector").onchange = (event) => chooseDetector(event.target.value);
  $("threshold").oninput = (event) => moveThreshold(state.scores.thresholds[event.target.value].threshold);
  $("threshold-reset").onclick = () => {
    moveThreshold(1);
    $("threshold").focus();
  };
  $("open-help").onclick = () => $("help").showModal();
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    keyStore.value = $("key").value;
    $("key").value = "";
    $("key-form").hidden = true;
    begin();
  };
  document.addEventListener("keydown", pageKey);
}

wirePictures();
wireCanvas();
wireAnswers();
wireRest();
toolChanged();
refresh();
begin();
