"use strict";
// Draws one small chart a test set from the data in the page: hover shows values, buttons toggle.
(() => {
  const sets = JSON.parse(document.getElementById("chart-data").textContent);
  const host = document.getElementById("charts"), tip = document.getElementById("tip");
  const sizes = [...new Set(sets.flatMap(s => Object.values(s.readings).flat().map(l => l.size)))];
  const viridis = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81]];
  const hidden = new Set();
  const readings = { raw: "raw loss", temperature: "loss at best temperature", style: "style-controlled loss", accuracy: "accuracy" };
  let reading = "raw";
  const W = 360, H = 240, L = 46, R = 16, T = 10, B = 30;

  function colour(size) {
    const at = sizes.length < 2 ? 0 : sizes.indexOf(size) / (sizes.length - 1) * (viridis.length - 1);
    const i = Math.min(Math.floor(at), viridis.length - 2), f = at - i;
    return `rgb(${viridis[i].map((v, k) => Math.round(v + f * (viridis[i + 1][k] - v))).join(",")})`;
  }
  const short = (v, d = 3) => { for (const [u, n] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (v >= u) return +(v / u).toPrecision(d) + n; return String(Number.isInteger(v) ? v : +v.toPrecision(d)); };
  function node(name, attributes, parent) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (parent) parent.appendChild(made);
    return made;
  }
  function ticks(low, high) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough), found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) found.push(v);
    return found;
  }
  function draw(set) {
    const box = document.createElement("div"); box.className = "chart";
    const title = document.createElement("h3"); title.textContent = set.name;
    const kind = document.createElement("span"); kind.textContent = set.kind.replace("_", "-");
    title.appendChild(kind); box.appendChild(title);
    const lines = set.readings[reading].filter(l => !hidden.has(l.size) && l.x.length);
    const svg = node("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" }); box.appendChild(svg);
    if (!lines.length) return box;
    const xs = lines.flatMap(l => l.x).map(Math.log2), ys = lines.flatMap(l => [...l.low, ...l.high, ...l.y]);
    let x0 = Math.min(...xs), x1 = Math.max(...xs), y0 = Math.min(...ys), y1 = Math.max(...ys);
    if (x0 === x1) { x0 -= 1; x1 += 1; }
    const room = (y1 - y0) * 0.05 || 0.01; y0 -= room; y1 += room;
    const X = v => L + (Math.log2(v) - x0) / (x1 - x0) * (W - L - R), Y = v => T + (y1 - v) / (y1 - y0) * (H - T - B);
    for (const v of ticks(y0, y1)) {
      node("line", { x1: L, x2: W - R, y1: Y(v), y2: Y(v), stroke: "#e9ebee" }, svg);
      node("text", { x: L - 5, y: Y(v) + 3.5, "text-anchor": "end", "font-size": 10, fill: "#667085" }, svg).textContent = +v.toPrecision(4);
    }
    const every = Math.max(1, Math.ceil((x1 - x0) / 6));
    for (let e = Math.ceil(x0); e <= x1; e += every)
      node("text", { x: X(2 ** e), y: H - B + 14, "text-anchor": "middle", "font-size": 10, fill: "#667085" }, svg).textContent = short(2 ** e, 2);
    node("text", { x: (L + W - R) / 2, y: H - 3, "text-anchor": "middle", "font-size": 10, fill: "#667085" }, svg).textContent = "training pairs";
    for (const line of lines) {
      const paint = colour(line.size);
      const band = [...line.x.map((v, i) => [X(v), Y(line.high[i])]), ...line.x.map((v, i) => [X(v), Y(line.low[i])]).reverse()];
      node("polygon", { points: band.join(" "), fill: paint, opacity: 0.12 }, svg);
      const law = line.law_x ? line.law_x.map((v, i) => [X(v), Y(line.law_y[i])]) : line.x.map((v, i) => [X(v), Y(line.y[i])]);
      node("polyline", { points: law.join(" "), fill: "none", stroke: paint, "stroke-width": 1.5, "stroke-dasharray": line.law_x ? "5 3" : "" }, svg);
      line.x.forEach((v, i) => {
        const dot = node("circle", { cx: X(v), cy: Y(line.y[i]), r: 3.4, fill: paint, stroke: "#fff", "stroke-width": 0.7 }, svg);
        dot.addEventListener("mousemove", event => {
          tip.textContent = `${line.size}${line.verdict ? " · " + line.verdict : ""}\n${short(v)} pairs\n${readings[reading]} ${line.y[i].toFixed(4)} [${line.low[i].toFixed(4)}, ${line.high[i].toFixed(4)}]${line.law ? "\nlaw: " + line.law.replace("_", " ") : ""}`;
          tip.style.display = "block";
          tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
          tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
        });
        dot.addEventListener("mouseleave", () => { tip.style.display = "none"; });
      });
    }
    return box;
  }
  function redraw() {
    host.replaceChildren(...sets.map(draw));
    document.querySelectorAll("[data-reading]").forEach(b => b.classList.toggle("on", b.dataset.reading === reading));
    document.querySelectorAll("[data-size]").forEach(b => b.classList.toggle("off", hidden.has(b.dataset.size)));
  }
  const controls = document.getElementById("controls");
  for (const key in readings) {
    const button = document.createElement("button"); button.dataset.reading = key; button.textContent = readings[key];
    button.addEventListener("click", () => { reading = key; redraw(); }); controls.appendChild(button);
  }
  for (const size of sizes) {
    const button = document.createElement("button"); button.className = "size"; button.dataset.size = size;
    const dot = document.createElement("i"); dot.className = "swatch"; dot.style.background = colour(size);
    button.append(dot, size);
    button.addEventListener("click", () => { hidden.has(size) ? hidden.delete(size) : hidden.add(size); redraw(); });
    controls.appendChild(button);
  }
  redraw();
})();
