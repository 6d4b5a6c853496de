"use strict";

// Every string of the data becomes a text node or the text of a canvas, never markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROOT = document.getElementById("explanations");

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function colour(name, alpha) {
  const parts = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return parts.includes(",") ? `rgba(${parts}, ${alpha})` : parts;
}

function signed(value, digits) {
  return (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits);
}

function shownToken(token) {
  return token.trim() === "" ? "·" : token.replace(/[\n\r\t]/g, "⏎");
}

// One text: its tokens, their pairs, and what is drawn of them.
class TextView {
  constructor(text, head) {
    this.tokens = text.tokens;
    this.count = text.tokens.length;
    this.head = head;
    this.words = text.words || null;
    // Row by row, little endian, as NumPy wrote them.
    this.cosines = new Float32Array(bytes(text.cosines).buffer);
    this.ownLinks = bytes(text.links);
    this.tau = head.tau;
    this.measure = "effect";
    this.chosen = null;
    this.root = element("section");
    this.build(text);
  }

  // The run's own links where its own threshold is set; elsewhere those of the threshold rule.
  linked(receiver, sender) {
    const pair = receiver * this.count + sender;
    if (this.tau === null || this.tau === this.head.tau) return this.ownLinks[pair] === 1;
    if (!this.tokens[receiver].takes_part || !this.tokens[sender].takes_part) return false;
    return this.tau < 1 && this.cosines[pair] > this.tau;
  }

  build(text) {
    this.root.append(element("h2", "", text.text));
    if (this.count === 0) {
      this.root.append(element("p", "soft", "A text without a token."));
      return;
    }
    const controls = element("div", "controls");
    controls.append(this.measureChoice());
    if (this.head.reads_graph || this.head.graph === "threshold") controls.append(this.slider());
    this.line = element("div", "text");
    this.pairs = element("p", "soft");
    this.canvas = element("canvas");
    this.canvas.width = 960;
    this.canvas.height = 960;
    this.table = element("table");
    const columns = element("div", "columns");
    columns.append(this.canvas, this.table);
    this.root.append(controls, this.line);
    if (this.words) this.root.append(this.wordLine());
    this.root.append(this.pairs, columns);
    this.buttons = this.tokens.map((token, position) => {
      const button = element("button", "token", shownToken(token.token));
      button.type = "button";
      button.addEventListener("click", () => {
        this.chosen = this.chosen === position ? null : position;
        this.draw();
      });
      this.line.append(button);
      return button;
    });
    this.draw();
  }

  measureChoice() {
    const label = element("label", "", "Colour: ");
    const select = element("select");
    const names = [
      ["effect", "what taking the token out costs the score"],
      ["weight", "readout weight"],
      ["degree", "number of links"],
    ];
    for (const [value, text] of names) {
      const option = element("option", "", text);
      option.value = value;
      select.append(option);
    }
    select.addEventListener("change", () => {
      this.measure = select.value;
      this.draw();
    });
    label.append(select);
    return label;
  }

  slider() {
    const label = element("label", "", "Links above cosine ");
    const input = element("input");
    input.type = "range";
    input.min = "-1";
    input.max = "1";
    input.step = "0.01";
    const own = this.head.tau;
    input.value = String(own === null ? 0.6 : own);
    this.shownTau = element("output");
    const reset = element("button", "", "as trained");
    reset.type = "button";
    const set = (tau) => {
      this.tau = tau;
      if (tau !== null) input.value = String(tau);
      this.draw();
    };
    input.addEventListener("input", () => set(Number(input.value)));
    reset.addEventListener("click", () => set(own));
    label.append(input, this.shownTau);
    const group = element("span");
    group.append(label, " ", reset);
    this.setTau = set;
    return group;
  }

  wordLine() {
    const line = element("div", "text");
    const largest = Math.max(...this.words.map((word) => Math.abs(word.effect.score)), 1e-30);
    for (const word of this.words) {
      const shown = element("span", "token", word.text);
      shown.title = `without this word: ${signed(-word.effect.score, 3)}`;
      this.paint(shown, word.effect.score / largest);
      line.append(shown, " ");
    }
    const group = element("div");
    group.append(element("p", "soft", "Words, taken out before the backbone reads the text:"), line);
    return group;
  }

  paint(target, share) {
    const strength = Math.min(1, Math.abs(share));
    const name = share >= 0 ? "--for" : "--against";
    target.style.backgroundColor = strength < 0.03 ? "" : colour(name, 0.75 * strength);
  }

  degree(position) {
    let links = 0;
    for (let other = 0; other < this.count; other += 1) {
      if (other !== position && this.linked(position, other)) links += 1;
    }
    return links;
  }

  draw() {
    const degrees = this.tokens.map((_, position) => this.degree(position));
    const values = this.tokens.map((token, position) => {
      if (this.measure === "effect") return token.effect.score;
      if (this.measure === "weight") return token.weight;
      return degrees[position];
    });
    const largest = Math.max(...values.map(Math.abs), 1e-30);
    this.buttons.forEach((button, position) => {
      const chosen = this.chosen === position;
      const near = this.chosen !== null && !chosen && this.linked(this.chosen, position);
      button.className = "token";
      button.classList.toggle("out", !this.tokens[position].takes_part);
      button.classList.toggle("chosen", chosen);
      button.classList.toggle("linked", near);
      this.paint(button, values[position] / largest);
    });
    const links = degrees.reduce((sum, degree) => sum + degree, 0);
    const possible = this.count * (this.count - 1);
    const share = possible ? Math.round((100 * links) / possible) : 0;
    const isOwn = this.tau === this.head.tau;
    const rule = isOwn ? `the run's own graph (${this.head.graph})` : "links of another threshold";
    this.pairs.textContent =
      `${links} of ${possible} pairs are linked, ${share} %: ${rule}.` +
      (this.head.reads_graph ? "" : ` ${this.head.pooler} does not read the graph.`) +
      (isOwn ? "" : " Weights and effects stay those of the trained head.");
    if (this.shownTau) this.shownTau.textContent = this.tau === null ? "" : this.tau.toFixed(2);
    this.drawGraph(values, largest);
    this.drawTable(degrees);
  }

  drawGraph(values, largest) {
    const pen = this.canvas.getContext("2d");
    const size = this.canvas.width;
    pen.clearRect(0, 0, size, size);
    const radius = size * 0.34;
    const at = (position) => {
      const angle = (2 * Math.PI * position) / this.count - Math.PI / 2;
      return [size / 2 + radius * Math.cos(angle), size / 2 + radius * Math.sin(angle), angle];
    };
    pen.lineWidth = this.count > 60 ? 1 : 2;
    for (let receiver = 0; receiver < this.count; receiver += 1) {
      for (let sender = 0; sender < receiver; sender += 1) {
        if (!this.linked(receiver, sender) && !this.linked(sender, receiver)) continue;
        const touches = this.chosen === receiver || this.chosen === sender;
        const faint = this.chosen === null ? 0.3 : 0.06;
        pen.strokeStyle = colour("--soft", 1);
        pen.globalAlpha = touches ? 0.9 : faint;
        pen.beginPath();
        pen.moveTo(...at(receiver).slice(0, 2));
        pen.lineTo(...at(sender).slice(0, 2));
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    const font = Math.max(9, Math.min(22, (2 * Math.PI * radius) / this.count - 2));
    pen.font = `${font}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    this.tokens.forEach((token, position) => {
      const [x, y, angle] = at(position);
      const share = values[position] / largest;
      pen.fillStyle = colour(share >= 0 ? "--for" : "--against", 0.2 + 0.8 * Math.abs(share));
      pen.beginPath();
      pen.arc(x, y, 3 + 9 * Math.sqrt(Math.abs(share)), 0, 2 * Math.PI);
      pen.fill();
      pen.fillStyle = colour("--ink", 1);
      pen.save();
      pen.translate(x, y);
      // Labels point outwards, and none stands on its head.
      const left = Math.cos(angle) < 0;
      pen.rotate(left ? angle + Math.PI : angle);
      pen.textAlign = left ? "right" : "left";
      pen.fillText(shownToken(token.token).slice(0, 18), left ? -16 : 16, 0);
      pen.restore();
    });
  }

  drawTable(degrees) {
    const isClass = this.tokens.some((token) => token.effect.probability !== null);
    const heads = ["token", isClass ? "probability" : "score"];
    if (isClass) heads.push("log-odds");
    heads.push("weight", "links");
    const header = element("tr");
    for (const head of heads) header.append(element("th", "", head));
    const order = this.tokens.map((_, position) => position);
    order.sort((a, b) => this.tokens[b].effect.score - this.tokens[a].effect.score);
    let listed = order.filter((position) => this.tokens[position].takes_part).slice(0, 8);
    if (this.chosen !== null && !listed.includes(this.chosen)) listed = [this.chosen, ...listed];
    const rows = listed.map((position) => {
      const token = this.tokens[position];
      const row = element("tr");
      row.append(element("td", "", shownToken(token.token)));
      if (isClass) row.append(element("td", "", signed(token.effect.probability || 0, 3)));
      row.append(element("td", "", signed(token.effect.score, isClass ? 2 : 3)));
      row.append(element("td", "", token.weight.toFixed(3)));
      row.append(element("td", "", String(degrees[position])));
      return row;
    });
    this.table.replaceChildren(header, ...rows);
  }
}

function answer(explanation) {
  const group = element("div");
  if (explanation.probabilities === null) {
    const score = explanation.prediction.toPrecision(4);
    group.append(element("p", "answer", `Predicted score: ${score}`));
    return group;
  }
  group.append(element("p", "answer", `Predicted: ${explanation.prediction}`));
  const shares = element("div", "shares");
  for (const [name, share] of Object.entries(explanation.probabilities)) {
    const bar = element("div", "bar");
    bar.style.width = `${100 * share}%`;
    shares.append(element("span", "", name), bar, element("span", "", share.toFixed(3)));
  }
  group.append(shares);
  group.append(element("p", "soft", `Effects are on the class: ${explanation.explained}`));
  return group;
}

const views = [];
for (const explanation of DATA.explanations) {
  ROOT.append(answer(explanation));
  for (const text of explanation.texts) {
    const view = new TextView(text, explanation.head);
    views.push(view);
    ROOT.append(view.root);
  }
}

// page.html#tau=0.8 opens at another threshold.
function fromAddress() {
  const match = /^#tau=(-?[0-9.]+)$/.exec(location.hash);
  if (!match) return;
  for (const view of views) if (view.setTau) view.setTau(Number(match[1]));
}
addEventListener("hashchange", fromAddress);
fromAddress();
