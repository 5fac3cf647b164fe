// Where the time went, as pictures: of a run by what it was spent on, of a call its waiting and its rhythm.
(function (streamll) {
"use strict";
const { element, set, seconds, count, WHAT } = streamll;

const WORDS = {
  speak: "model speaking", wait: "waiting for its first token", pause: "pauses between tokens",
  queue: "waiting to ask", asked: "waiting for an answer", tool: "tools", code: "code", own: "the program itself",
};
const LEAST = 0.0005; // of the whole: what is less is not drawn

const percent = (part, whole) => `${(whole > 0 ? (part / whole) * 100 : 0).toFixed(3)}%`;

/** As many elements as are needed, made by `make`. */
function fit(box, length, make) {
  while (box.children.length > length) box.lastChild.remove();
  while (box.children.length < length) box.append(make());
}

/** Where a run's time went: one bar, and its parts in words. */
class Shares {
  constructor(box) {
    this.bar = element("div", "bar");
    this.bar.setAttribute("aria-hidden", "true");
    this.legend = element("ul");
    this.legend.setAttribute("aria-label", "Where the time went");
    box.append(this.bar, this.legend);
    this.box = box;
  }
  draw(run, now) {
    const spent = streamll.shares(run, now), whole = Math.max(0, now - run.start);
    const parts = WHAT.filter((what) => spent[what] > LEAST * whole);
    const says = whole > 0 && parts.some((what) => what !== "own");
    this.box.hidden = !says && run.status !== "running"; // its coming would move what is below
    fit(this.bar, parts.length, () => element("i"));
    fit(this.legend, parts.length, () => {
      const line = element("li");
      line.append(element("i"), element("span"), element("span", "number"));
      return line;
    });
    parts.forEach((what, index) => {
      const piece = this.bar.children[index], line = this.legend.children[index];
      piece.className = line.className = what;
      piece.style.width = percent(spent[what], whole);
      const told = `${WORDS[what]} ${seconds(spent[what])}`;
      piece.title = told;
      set(line.children[1], WORDS[what]);
      set(line.children[2], seconds(spent[what]));
    });
  }
}

/** The time of one call: when it waited, when it spoke, and how many tokens came when. */
class Strip {
  constructor() {
    this.box = element("div", "strip");
    this.picture = element("div", "picture");
    this.picture.setAttribute("aria-hidden", "true");
    this.rhythm = element("i", "rhythm");
    this.pieces = element("div", "pieces");
    this.words = element("span", "words");
    this.picture.append(this.rhythm, this.pieces);
    this.box.append(this.picture, this.words);
  }
  /** `calls`: the model calls of a step. */
  draw(calls, from, to) {
    const pieces = calls.flatMap((lm) => lm.times.pieces(lm.end ?? to)), span = to - from;
    this.box.hidden = !pieces.length || span <= 0;
    if (this.box.hidden) return;
    fit(this.pieces, pieces.length, () => element("i"));
    pieces.forEach(([what, begin, end], index) => {
      const piece = this.pieces.children[index];
      piece.className = what;
      piece.title = `${WORDS[what]} ${seconds(end - begin)}`;
      piece.style.left = percent(begin - from, span);
      piece.style.width = percent(end - begin, span);
    });
    this.rhythm.style.clipPath = `polygon(${calls.flatMap((lm) => outline(lm.times.rhythm, from, span, to)).join(",") || "0 0"})`;
    set(this.words, calls.map(words).filter(Boolean).join(" · then "));
  }
}

/** The rhythm's outline, from left to right: how many tokens came in each part of the time. */
function outline({ start, width, counts, most }, from, span, to) {
  if (!most) return [];
  const points = [];
  for (let place = 0; place < counts.length && start + place * width < to; place++) {
    const height = 100 - (counts[place] / most) * 100;
    for (const at of [start + place * width, Math.min(start + (place + 1) * width, to)]) points.push(`${percent(at - from, span)} ${height.toFixed(1)}%`);
  }
  const [first] = points[0].split(" "), [last] = points.at(-1).split(" ");
  return [`${first} 100%`, ...points, `${last} 100%`];
}

function words(lm) {
  const { times, usage } = lm, told = [];
  if (times.waited !== null) told.push(`first token ${seconds(times.waited)}`);
  const queued = times.pieces(lm.end ?? 0).filter(([what]) => what === "queue").reduce((sum, [, from, to]) => sum + to - from, 0);
  if (queued) told.unshift(`waited ${seconds(queued)} to ask`);
  const spoken = times.now && times.now.first !== null && lm.end !== null ? lm.end - times.now.first : 0;
  const tokens = usage?.completion_tokens ?? times.tokens;
  if (spoken > 0.01 && tokens > 1) told.push(`${count(Math.round(tokens / spoken))} tokens a second`);
  const gaps = usage?.chunk_gaps || [], longest = Math.max(times.longestPause, ...gaps.map(([length]) => length));
  if (longest > 0.05) told.push(`longest pause ${seconds(longest)}`);
  return told.join(" · ");
}

Object.assign(streamll, { Shares, Strip });
})(window.streamll = window.streamll || {});
