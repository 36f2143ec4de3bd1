"""One HTML file that shows what a network knows of an image: samples, maps of doubt, the interval of a clicked pixel.

All values travel as 8-bit PNGs inside the page and are read back from a canvas: it needs no server and fetches nothing.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

__all__ = ["ViewerScene", "viewer_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 84rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { line-height: 1.2; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; }
figcaption { min-height: 3.4rem; display: flex; gap: .6rem; align-items: center; flex-wrap: wrap; }
.stack { position: relative; line-height: 0; }
canvas { width: 100%; image-rendering: pixelated; }
.stack canvas + canvas { position: absolute; inset: 0; cursor: crosshair; }
.stack canvas:focus-visible { outline: 3px solid #0072B2; }
input[type=range] { flex: 1; min-width: 8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child { text-align: left; }
.wide { overflow-x: auto; }
#legend { height: 1rem; width: 12rem; }
#plot text { font: 12px system-ui, sans-serif; }
"""

BODY = """
<p id="about"></p>
<div class="panels">
<figure><figcaption>Low resolution</figcaption>
<div class="stack"><canvas id="low"></canvas><canvas tabindex="0" aria-label="low resolution"></canvas></div></figure>
<figure><figcaption><label for="number" id="name"></label><input type="range" id="number" min="0" value="0">
<button type="button" id="play">play</button></figcaption>
<div class="stack"><canvas id="image"></canvas><canvas tabindex="0" aria-label="sample"></canvas></div></figure>
<figure><figcaption><label for="kind">Standard deviation</label><select id="kind"></select>
<span>0 <canvas id="legend" width="256" height="1"></canvas> <span id="most"></span></span></figcaption>
<div class="stack"><canvas id="map"></canvas><canvas tabindex="0" aria-label="standard deviation"></canvas></div>
</figure>
</div>
<h2 id="where">Click a pixel, or move with the arrow keys</h2>
<div class="wide"><table><thead><tr id="head"></tr></thead><tbody id="rows"></tbody></table></div>
<svg id="plot" width="640" height="0" role="img" aria-label="interval, samples and mean of the pixel"></svg>
<noscript><p>This page needs JavaScript, which it holds itself.</p></noscript>
"""

SCRIPT = """
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
  const samples = Object.keys(layers).filter(name => name.startsWith("sample "));
  const images = ["mean", ...samples, ...("original" in layers ? ["original"] : [])];
  const kinds = data.spreads, bands = data.bands.length, width = layers.mean.width, height = layers.mean.height;
  const value = (name, at, band) => data.low + layers[name].data[4 * at + band] / 255 * (data.high - data.low);
  const spread = (name, at, band) => layers[name].data[4 * at + band] * data.spread_step * (data.high - data.low);
  const draw = (canvas, image) => {
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  const whole = (name, at) => {  // root of the bands' mean variance
    let sum = 0;
    for (let band = 0; band < bands; band++) sum += spread(name, at, band) ** 2;
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
    find("name").textContent = name === "mean" ? "mean of all answers" : name;
    draw(find("image"), layers[name]);
  }
  function showMap() {
    const map = new ImageData(width, height);
    let most = 0;
    for (const name of kinds) for (let at = 0; at < width * height; at++) most = Math.max(most, whole(name, at));
    for (let at = 0; at < width * height; at++)
      map.data.set([...shade(whole(kind.value, at) / (most || 1)), 255], 4 * at);
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
  function tell() {
    const at = row * width + column, hasBounds = "lower" in layers;
    find("where").textContent = `Pixel in row ${row}, column ${column}`;
    const bounds = hasBounds ? [data.interval + " from", "to"] : [];
    const truth = images.filter(name => name === "original");
    const heads = ["band", ...truth, "mean", ...bounds, "samples from", "to", ...kinds];
    find("head").replaceChildren(...heads.map(text => element("th", text)));
    const lines = [];
    for (let band = 0; band < bands; band++) {
      const drawn = samples.map(name => value(name, at, band));
      const numbers = [...truth.map(name => value(name, at, band)), value("mean", at, band),
        ...(hasBounds ? [value("lower", at, band), value("upper", at, band)] : []),
        drawn.length ? Math.min(...drawn) : NaN, drawn.length ? Math.max(...drawn) : NaN,
        ...kinds.map(name => spread(name, at, band))];
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
    tell();
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
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class ViewerScene:
    """What a page shows.

    Attributes:
        low_res: (C, h, w) in [0, 1], one band or three.
        layers: name -> (C, H, W), "mean" among them; standard deviations and images alike on the [0, 1] scale. Images
            are "mean", "sample 1" ..., "lower" and "upper", and "original" where the truth is known.
        spreads: names of the layers that are standard deviations, "total" among them.
        bands: names of the C bands.
        low, high: pixel values that 0 and 1 stand for; unit: their unit.
        about: a sentence on the image and the network.
        interval: what lower and upper bound are, such as "90 % interval".
    """

    low_res: np.ndarray
    layers: Mapping[str, np.ndarray]
    spreads: Sequence[str]
    bands: Sequence[str]
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    about: str = ""
    interval: str = "interval"


def viewer_page(scene: ViewerScene, *, title: str) -> str:
    """The page as text.

    Images are rounded to 1/255 of the range, standard deviations to 1/255 of the largest.

    Raises:
        ValueError: the bands are neither one nor three, or a layer has another shape than the mean.
    """
    shape = scene.layers["mean"].shape
    if len(shape) != 3 or shape[0] not in (1, 3) or len(scene.bands) != shape[0]:
        raise ValueError(f"mean {shape} with bands {list(scene.bands)}: a page shows one band or three, each named.")
    odd = [name for name, layer in scene.layers.items() if layer.shape != shape]
    if odd:
        raise ValueError(f"layer {odd[0]!r} {scene.layers[odd[0]].shape} must have the shape of the mean, {shape}.")
    step = max((float(scene.layers[name].max()) for name in scene.spreads), default=0.0) / 255 or 1.0
    factors = {name: 1 / (255 * step) if name in scene.spreads else 1.0 for name in scene.layers}
    data = {
        "low_res": _png(scene.low_res),
        "layers": {name: _png(layer * factors[name]) for name, layer in scene.layers.items()},
        "spreads": list(scene.spreads),
        "spread_step": step,
        "bands": list(scene.bands),
        "low": scene.low,
        "high": scene.high,
        "unit": scene.unit,
        "about": scene.about,
        "interval": scene.interval,
    }
    # Inside a script element "<" could end it; as an escape of JSON it cannot.
    encoded = json.dumps(data).replace("<", "\\u003c")
    name = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>{BODY}"
        f'<script type="application/json" id="data">{encoded}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def _png(values: np.ndarray) -> str:
    """(1 or 3, H, W) in [0, 1] as the data URL of a PNG of 8 bits."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
