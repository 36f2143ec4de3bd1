"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = id => document.getElementById(id);
const SHADES = [[0,34,78],[18,53,112],[59,73,108],[87,93,109],[112,113,115],[138,134,120],[165,156,116],[195,179,105],
                [225,204,85],[254,232,56]];  // cividis
const shade = share => {
  const place = Math.min(Math.max(share, 0), 1) * (SHADES.length - 1);
  const low = Math.min(Math.floor(place), SHADES.length - 2);
  return SHADES[low].map((value, i) => value + (place - low) * (SHADES[low + 1][i] - value));
};
const element = (tag, text) => { const made = document.createElement(tag); made.textContent = text; return made; };
const shown = value => Number(value.toPrecision(4)).toString();

async function pixels(source) {
  const picture = new Image();
  picture.src = source;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function start() {
  const layers = {};
  for (const [name, source] of Object.entries(data.layers)) layers[name] = await pixels(source);
  const low = await pixels(data.low_res);
  const known = data.known === null ? null : await pixels(data.known);
  const isKnown = (at, image = layers.mean) => {
    if (known === null) return true;
    const across = image.width / low.width, x = at % image.width, y = Math.floor(at / image.width);
    return known.data[4 * (Math.floor(y / across) * low.width + Math.floor(x / across))] > 127;
  };
  for (const image of [low, ...Object.values(layers)])
    for (let at = 0; at < image.width * image.height; at++) if (!isKnown(at, image)) image.data[4 * at + 3] = 0;
  const samples = Object.keys(layers).filter(name => name.startsWith("sample "));
  const images = ["mean", ...samples, ...("original" in layers ? ["original"] : [])];
  const kinds = data.deviations, bands = data.bands.length, width = layers.mean.width, height = layers.mean.height;
  const value = (name, at, band) => data.low + layers[name].data[4 * at + band] / 255 * (data.high - data.low);
  const deviation = (name, at, band) => layers[name].data[4 * at + band] * data.deviation_step * (data.high - data.low);
  const draw = (canvas, image) => {
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  const whole = (name, at) => {  // root of the bands' mean variance
    let sum = 0;
    for (let band = 0; band < bands; band++) sum += deviation(name, at, band) ** 2;
    return Math.sqrt(sum / bands);
  };

  let column = width >> 1, row = height >> 1, timer = null;
  const number = find("number"), kind = find("kind");
  const overlays = [...document.querySelectorAll(".stack canvas + canvas")];
  number.max = images.length - 1;
  for (const name of kinds) kind.append(element("option", name));
  kind.value = "total";
  find("about").textContent = data.about;
  draw(find("low"), low);

  function showImage() {
    const name = images[number.value];
    find("name").textContent = name;
    draw(find("image"), layers[name]);
  }
  function showMap() {
    const map = new ImageData(width, height);
    let most = 0;
    for (const name of kinds)
      for (let at = 0; at < width * height; at++) if (isKnown(at)) most = Math.max(most, whole(name, at));
    for (let at = 0; at < width * height; at++)
      map.data.set([...shade(whole(kind.value, at) / (most || 1)), isKnown(at) ? 255 : 0], 4 * at);
    draw(find("map"), map);
    find("most").textContent = `${shown(most)} ${data.unit}`;
  }
  function legend() {
    const line = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) line.data.set([...shade(i / 255), 255], 4 * i);
    find("legend").getContext("2d").putImageData(line, 0, 0);
  }
  function mark() {
    for (const overlay of overlays) {
      overlay.width = width;
      overlay.height = height;
      const context = overlay.getContext("2d");
      for (const [colour, wide] of [["#000", 3], ["#fff", 1]]) {
        context.strokeStyle = colour;
        context.lineWidth = wide;
        context.strokeRect(column - 4.5, row - 4.5, 10, 10);
      }
    }
  }
  function showPixel() {
    const at = row * width + column, hasBounds = "lower" in layers;
    find("where").textContent = `Pixel in row ${row}, column ${column}` + (isKnown(at) ? "" : ": missing in the image");
    find("rows").replaceChildren();
    find("plot").replaceChildren();
    if (!isKnown(at)) return;
    const bounds = hasBounds ? [data.interval + " from", "to"] : [];
    const target = images.filter(name => name === "original");
    const heads = ["band", ...target, "mean", ...bounds, "samples from", "to", ...kinds];
    find("head").replaceChildren(...heads.map(text => element("th", text)));
    const lines = [];
    for (let band = 0; band < bands; band++) {
      const drawn = samples.map(name => value(name, at, band));
      const numbers = [...target.map(name => value(name, at, band)), value("mean", at, band),
        ...(hasBounds ? [value("lower", at, band), value("upper", at, band)] : []),
        drawn.length ? Math.min(...drawn) : NaN, drawn.length ? Math.max(...drawn) : NaN,
        ...kinds.map(name => deviation(name, at, band))];
      const line = document.createElement("tr");
      const cells = numbers.map(each => element("td", isNaN(each) ? "" : shown(each)));
      line.append(element("th", data.bands[band]), ...cells);
      lines.push(line);
    }
    find("rows").replaceChildren(...lines);
    plot(at, hasBounds);
  }
  function plot(at, hasBounds) {
    const svg = find("plot"), left = 90, wide = 540;
    svg.setAttribute("height", 30 * bands + 26);
    svg.replaceChildren();
    const place = each => left + (each - data.low) / (data.high - data.low) * wide;
    const add = (tag, attributes, text = "") => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, each] of Object.entries(attributes)) made.setAttribute(key, each);
      made.textContent = text;
      svg.append(made);
    };
    for (let band = 0; band < bands; band++) {
      const y = 30 * band + 16;
      add("text", {x: 0, y: y + 4}, data.bands[band]);
      add("line", {x1: left, x2: left + wide, y1: y, y2: y, stroke: "#ddd"});
      if (hasBounds) {
        const [from, to] = ["lower", "upper"].map(name => place(value(name, at, band)));
        add("line", {x1: from, x2: to, y1: y, y2: y, stroke: "#0072B2", "stroke-width": 7, "stroke-opacity": .45});
      }
      for (const name of samples)
        add("circle", {cx: place(value(name, at, band)), cy: y, r: 3, fill: "#D55E00", "fill-opacity": .7});
      const mean = place(value("mean", at, band));
      add("line", {x1: mean, x2: mean, y1: y - 8, y2: y + 8, stroke: "#000", "stroke-width": 2});
    }
    add("text", {x: left, y: 30 * bands + 20}, shown(data.low));
    add("text", {x: left + wide, y: 30 * bands + 20, "text-anchor": "end"}, `${shown(data.high)} ${data.unit}`);
  }
  function go(x, y) {
    column = Math.min(Math.max(x, 0), width - 1);
    row = Math.min(Math.max(y, 0), height - 1);
    mark();
    showPixel();
  }

  number.addEventListener("input", showImage);
  kind.addEventListener("change", showMap);
  find("play").addEventListener("click", () => {
    if (timer) clearInterval(timer);
    timer = timer ? null : setInterval(() => {
      number.value = Number(number.value) % samples.length + 1;
      showImage();
    }, 400);
    find("play").textContent = timer ? "stop" : "play";
  });
  find("play").hidden = samples.length < 2;
  for (const overlay of overlays) {
    overlay.addEventListener("click", event => {
      const box = overlay.getBoundingClientRect();
      go(Math.floor((event.clientX - box.left) / box.width * width),
         Math.floor((event.clientY - box.top) / box.height * height));
    });
    overlay.addEventListener("keydown", event => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
      if (!step) return;
      event.preventDefault();
      go(column + step[0], row + step[1]);
    });
  }
  legend();
  showImage();
  showMap();
  go(column, row);
}
start();
