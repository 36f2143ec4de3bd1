"use strict";
// Pictures of one size side by side, all seen through one view: zoom, pan and a marked pixel.
const find = id => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const shown = value => Number(value.toPrecision(4)).toString();
const element = (tag, text = "") => Object.assign(document.createElement(tag), {textContent: text});

const CIVIDIS = [[0,34,78],[18,53,112],[59,73,108],[87,93,109],[112,113,115],[138,134,120],[165,156,116],[195,179,105],
                 [225,204,85],[254,232,56]];
const SHADES = Uint8Array.from({length: 768}, (_, i) => {
  const place = Math.floor(i / 3) / 255 * (CIVIDIS.length - 1), low = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return CIVIDIS[low][i % 3] + (place - low) * (CIVIDIS[low + 1][i % 3] - CIVIDIS[low][i % 3]);
});

async function pixels(source) {
  const picture = new Image();
  picture.src = source;
  await picture.decode();
  const canvas = Object.assign(element("canvas"), {width: picture.naturalWidth, height: picture.naturalHeight});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function canvasOf(image) {
  const canvas = Object.assign(element("canvas"), {width: image.width, height: image.height});
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function mapOf(width, height, shareAt, isKnown = () => true) {  // values from 0 to 1 in the colours of the legend
  const image = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    const shade = 3 * Math.round(255 * clamp(shareAt(at), 0, 1));
    for (let c = 0; c < 3; c++) image.data[4 * at + c] = SHADES[shade + c];
    image.data[4 * at + 3] = isKnown(at) ? 255 : 0;
  }
  return canvasOf(image);
}

function legend(place, low, high, unit) {
  const bar = element("span");
  bar.className = "colours";
  bar.style.background = `linear-gradient(to right, ${CIVIDIS.map(shade => `rgb(${shade})`)})`;
  place.replaceChildren(low, bar, `${high} ${unit}`);
}

class Panels {
  #list = [];
  #frame = 0;
  #fitted = true;
  #pointers = new Map();
  #dragged = false;
  mark = {column: 0, row: 0};

  constructor(onMark) {
    this.onMark = onMark;
    const buttons = {in: () => this.zoomBy(1.5), out: () => this.zoomBy(1 / 1.5), fit: () => this.fit(),
                     one: () => this.zoomTo(1)};
    for (const [id, action] of Object.entries(buttons)) find(id).addEventListener("click", action);
    this.keys = {"+": buttons.in, "=": buttons.in, "-": buttons.out, "0": buttons.fit, "1": buttons.one};
    document.addEventListener("keydown", event => this.#key(event));
  }

  add(id, paint) {  // paint(context, one CSS pixel in pixels of the picture)
    const canvas = find(id);
    this.#list.push({canvas, paint});
    canvas.addEventListener("wheel", event => this.#wheel(event), {passive: false});
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      canvas.addEventListener(kind, event => this.#pointer(event));
    canvas.addEventListener("dblclick", event => this.zoomBy(2, this.#inside(event)));
    new ResizeObserver(() => this.#fitted ? this.fit() : this.draw()).observe(canvas);
  }

  size(width, height) {
    const same = width === this.width && height === this.height;
    Object.assign(this, {width, height});
    document.documentElement.style.setProperty("--aspect", clamp(width / height, 0.5, 2));
    if (!same) this.fit();
    return same;
  }

  get #box() {
    const {clientWidth, clientHeight} = this.#list[0].canvas;
    return {width: clientWidth || 1, height: clientHeight || 1};
  }
  get #whole() { return Math.min(this.#box.width / this.width, this.#box.height / this.height); }

  fit() {
    Object.assign(this, {x: this.width / 2, y: this.height / 2, zoom: this.#whole});
    this.draw();
  }
  zoomTo(zoom, at = {x: 0, y: 0}) {  // at: from the middle of a panel, which stays where it is
    const before = this.zoom;
    this.zoom = clamp(zoom, Math.min(this.#whole, 1), 64);
    this.panBy(at.x * (this.zoom - before) / before, at.y * (this.zoom - before) / before);
  }
  zoomBy(factor, at) { this.zoomTo(this.zoom * factor, at); }
  panBy(x, y) {  // in CSS pixels
    const {width, height} = this.#box, spare = (side, box) => Math.max(0, (side - box / this.zoom) / 2);
    const across = spare(this.width, width), down = spare(this.height, height);
    this.x = clamp(this.x + x / this.zoom, this.width / 2 - across, this.width / 2 + across);
    this.y = clamp(this.y + y / this.zoom, this.height / 2 - down, this.height / 2 + down);
    this.draw();
  }
  go(column, row) {
    this.mark = {column: clamp(column, 0, this.width - 1), row: clamp(row, 0, this.height - 1)};
    const {width, height} = this.#box, away = {x: this.mark.column + 0.5 - this.x, y: this.mark.row + 0.5 - this.y};
    const hidden = Math.abs(away.x) * this.zoom > width / 2 || Math.abs(away.y) * this.zoom > height / 2;
    if (hidden) this.panBy(away.x * this.zoom, away.y * this.zoom);
    this.draw();
    this.onMark(this.mark);
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#paint());
  }
  #paint() {
    if (!this.width) return;
    const {width, height} = this.#box, ratio = devicePixelRatio, scale = this.zoom * ratio;
    this.#fitted = Math.abs(this.zoom - this.#whole) < 1e-6;
    find("zoom").textContent = `${Math.round(100 * this.zoom)} %`;
    for (const {canvas, paint} of this.#list) {
      canvas.style.touchAction = this.#fitted ? "pan-y" : "none";  // a page whose pictures are whole scrolls by a finger
      const sides = {width: Math.round(width * ratio), height: Math.round(height * ratio)};
      if (canvas.width !== sides.width || canvas.height !== sides.height) Object.assign(canvas, sides);
      const context = canvas.getContext("2d");
      context.resetTransform();
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.setTransform(scale, 0, 0, scale, canvas.width / 2 - this.x * scale, canvas.height / 2 - this.y * scale);
      context.imageSmoothingEnabled = scale < 1;
      paint(context, 1 / this.zoom);
      const edge = Math.max(0.5, 6 / this.zoom), {column, row} = this.mark;
      for (const [colour, wide] of [["#000", 4], ["#fff", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = wide / this.zoom;
        context.strokeRect(column + 0.5 - edge, row + 0.5 - edge, 2 * edge, 2 * edge);
      }
    }
  }

  #inside(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return {x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2};
  }
  #wheel(event) {
    const outwards = event.deltaY > 0;
    if (outwards && this.zoom <= Math.min(this.#whole, 1) + 1e-6 || event.deltaY === 0) return;  // the page scrolls
    event.preventDefault();
    const step = clamp(event.deltaMode ? 30 * event.deltaY : event.deltaY, -200, 200);
    this.zoomBy(Math.exp(-step / (event.ctrlKey ? 100 : 400)), this.#inside(event));
  }
  #pointer(event) {
    const pointers = this.#pointers, before = pointers.get(event.pointerId), now = this.#inside(event);
    if (event.type === "pointerdown") {
      event.currentTarget.setPointerCapture(event.pointerId);
      this.#dragged = pointers.size > 0;
      pointers.set(event.pointerId, {...now, start: now});
    } else if (before && event.type === "pointermove") {
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const distance = place => Math.hypot(place.x - other.x, place.y - other.y);
        const middle = place => ({x: (place.x + other.x) / 2, y: (place.y + other.y) / 2});
        this.panBy(middle(before).x - middle(now).x, middle(before).y - middle(now).y);
        this.zoomBy(distance(now) / Math.max(1, distance(before)), middle(now));
      } else if (this.#dragged || Math.hypot(now.x - before.start.x, now.y - before.start.y) > 4) {
        this.#dragged = true;
        this.panBy(before.x - now.x, before.y - now.y);
      }
      pointers.set(event.pointerId, {...now, start: before.start});
    } else if (before) {
      pointers.delete(event.pointerId);
      if (event.type === "pointerup" && !this.#dragged)
        this.go(Math.floor(this.x + now.x / this.zoom), Math.floor(this.y + now.y / this.zoom));
    }
  }
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (step && event.target.matches(".panel")) {
      event.preventDefault();
      if (event.shiftKey) this.panBy(60 * step[0], 60 * step[1]);
      else this.go(this.mark.column + step[0], this.mark.row + step[1]);
    } else if (this.keys[event.key] && !event.target.matches("select")) {
      event.preventDefault();
      this.keys[event.key](event);
    }
  }
}

function slider(id, panels, keys, onChange) {  // a range, with keys for one back and one on
  const range = find(id);
  const move = step => {
    range.value = Number(range.value) + step;
    onChange();
  };
  range.addEventListener("input", onChange);
  keys.forEach((key, i) => { panels.keys[key] = () => move(2 * i - 1); });
  return range;
}

function play(id, range, onChange, first, last) {  // runs through the values of a range, over and over
  let timer = null;
  find(id).addEventListener("click", () => {
    clearInterval(timer);
    timer = timer ? null : setInterval(() => {
      const next = Number(range.value) + 1;
      range.value = next > last() ? first() : Math.max(first(), next);
      onChange();
    }, 400);
    find(id).textContent = timer ? "stop" : "play";
  });
}
