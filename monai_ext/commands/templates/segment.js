// The page around the worker: pictures in; outline, map, numbers and files out.
"use strict";
const element = (id) => document.getElementById(id);
const settings = JSON.parse(element("settings").textContent);
const MOST_PIXELS = 1e8, TOLD = settings.kind === "raters" ? "share of raters" : "probability";
const canvas = element("picture"), pen = canvas.getContext("2d");
let worker, picture, name, found, centre, number = 0; // of the picture that is shown

async function unpacked(id) {
  const packed = Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));
  element(id).remove();
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function start() {
  const parts = [await unpacked("runtime-script"), element("worker").textContent];
  worker = new Worker(URL.createObjectURL(new Blob(parts, { type: "text/javascript" })));
  worker.onmessage = ({ data }) => received(data);
  worker.onerror = (event) => failed(event.message);
  const message = {
    settings,
    wasm: await unpacked("runtime-wasm"),
    network: await unpacked("network"),
    draw: element("draw") && (await unpacked("draw")),
  };
  worker.postMessage(message);
}

function received(data) {
  if (data.ready) {
    element("file").disabled = false;
    state("ready", "Ready.");
  } else if (data.number !== undefined && data.number !== number) return; // of an earlier picture
  else if (data.error) failed(data.error);
  else if (data.all) {
    element("progress").max = data.all;
    element("progress").value = data.done;
  } else {
    found = data.found;
    shown();
  }
}

function state(what, words) {
  document.body.dataset.state = what;
  element("status").textContent = words;
  element("status").classList.toggle("error", what === "error");
  element("progress").hidden = what !== "busy";
}

const failed = (words) => state("error", `This did not work: ${words}`);

async function opened(file) {
  if (!file || element("file").disabled) return;
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" });
    if (bitmap.width * bitmap.height > MOST_PIXELS) throw new Error(`${bitmap.width} x ${bitmap.height} pixels are too many for a page.`);
    picture = bitmap;
  } catch (error) {
    failed(error.name === "InvalidStateError" || error.name === "EncodingError" ? `'${file.name}' is no picture that this browser reads.` : error.message);
    return;
  }
  name = file.name.replace(/\.[^.]*$/, "");
  centre = null;
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.parentElement.classList.toggle("small", picture.width < 640);
  canvas.parentElement.classList.toggle("point", settings.zoom > 1);
  predict();
}

function predict() {
  const all = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  all.drawImage(picture, 0, 0);
  const { data } = all.getImageData(0, 0, picture.width, picture.height);
  state("busy", `Segmenting ${name} ...`);
  element("progress").removeAttribute("value");
  worker.postMessage({ number: ++number, pixels: data, height: picture.height, width: picture.width, centre }, [data.buffer]);
}

// The mask that the controls choose: of the map, or of a sample.
function maskOf() {
  const chosen = element("sample") ? Number(element("sample").value) : 0;
  return chosen ? found.masks[chosen - 1] : Uint8Array.from(found.map, (value) => value > settings.threshold);
}

function shown() {
  const { map, region } = found, [top, left, tall, wide] = region;
  const view = document.querySelector("input[name=view]:checked").value;
  const mask = maskOf(), pixels = canvas.width * canvas.height;
  const area = mask.reduce((sum, value) => sum + value, 0), greatest = map.reduce((most, value) => Math.max(most, value), 0);
  pen.drawImage(picture, 0, 0);
  if (view === "probability") {
    pen.fillStyle = colourOf(0);
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.putImageData(painted(map, tall, wide, (value) => MAGMA[value]), left, top);
  }
  if (view !== "picture") outlined(mask, region, view === "probability" ? "#56B4E9" : "#E69F00");
  if (settings.zoom > 1) framed(region);
  element("scale").hidden = view !== "probability";
  if (element("sample")) {
    const chosen = Number(element("sample").value);
    element("which").value = chosen ? settings.names[chosen - 1] : "more than half of the raters";
  }
  element("area").textContent = `${area.toLocaleString("en")} pixels`;
  element("share").textContent = `${((100 * area) / pixels).toFixed(2)} %`;
  element("size").textContent = `${canvas.width} x ${canvas.height} pixels`;
  element("greatest").textContent = greatest.toFixed(3);
  element("result").hidden = false;
  canvas.setAttribute("aria-label", `${name}: ${settings.object} of ${area} pixels`);
  const words = area ? `${name}: ${settings.object} of ${area.toLocaleString("en")} pixels.` : `${name}: no ${settings.object} found, the ${TOLD} is ${greatest.toFixed(2)} at most.`;
  state("done", words);
}

const STOPS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
const TABLE = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (STOPS.length - 1), below = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[below].map((low, band) => Math.round(low + (STOPS[below + 1][band] - low) * (place - below)));
});
const colourOf = (value) => `rgb(${TABLE[Math.round(255 * value)].join(" ")})`;

const OPAQUE = 0xff000000, MAGMA = TABLE.map(([red, green, blue]) => OPAQUE + (blue << 16) + (green << 8) + red);

function painted(values, tall, wide, word) {
  const image = new ImageData(wide, tall), words = new Uint32Array(image.data.buffer);
  for (let at = 0; at < words.length; at++) words[at] = word(Math.round(255 * values[at]));
  return image;
}

function outlined(mask, [top, left, tall, wide], colour) {
  const thick = Math.max(1, Math.round(Math.max(canvas.width, canvas.height) / 250));
  pen.fillStyle = colour;
  for (let row = 0, at = 0; row < tall; row++)
    for (let column = 0; column < wide; column++, at++) {
      if (!mask[at]) continue;
      const inner = row > 0 && row < tall - 1 && column > 0 && column < wide - 1 && mask[at - 1] && mask[at + 1] && mask[at - wide] && mask[at + wide];
      if (!inner) pen.fillRect(left + column - (thick >> 1), top + row - (thick >> 1), thick, thick);
    }
}

function framed([top, left, tall, wide]) {
  pen.strokeStyle = "#56B4E9";
  pen.lineWidth = Math.max(1, Math.round(canvas.width / 300));
  pen.setLineDash([4 * pen.lineWidth, 3 * pen.lineWidth]);
  pen.strokeRect(left + pen.lineWidth / 2, top + pen.lineWidth / 2, wide - pen.lineWidth, tall - pen.lineWidth);
}

function looked(row, column) {
  if (!(settings.zoom > 1) || !picture) return;
  centre = [Math.min(Math.max(row, 0), canvas.height), Math.min(Math.max(column, 0), canvas.width)];
  predict();
}

async function saved(values, ending) {
  const [top, left, tall, wide] = found.region;
  const whole = new OffscreenCanvas(canvas.width, canvas.height), brush = whole.getContext("2d");
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.putImageData(painted(values, tall, wide, (value) => OPAQUE + value * 0x10101), left, top);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await whole.convertToBlob({ type: "image/png" }));
  link.download = `${name}_${ending}.png`;
  link.click();
}

element("file").addEventListener("change", ({ target }) => opened(target.files[0]));
addEventListener("paste", ({ clipboardData }) => opened(clipboardData.files[0]));
addEventListener("dragover", (event) => { event.preventDefault(); element("drop").classList.add("over"); });
addEventListener("dragleave", () => element("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  opened(event.dataTransfer.files[0]);
});
document.querySelectorAll("input[name=view]").forEach((radio) => radio.addEventListener("change", shown));
element("sample")?.addEventListener("input", shown);
canvas.addEventListener("click", ({ offsetX, offsetY }) => {
  const scale = Math.min(canvas.clientWidth / canvas.width, canvas.clientHeight / canvas.height);
  const left = (canvas.clientWidth - scale * canvas.width) / 2, top = (canvas.clientHeight - scale * canvas.height) / 2;
  looked((offsetY - top) / scale, (offsetX - left) / scale);
});
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step || !(settings.zoom > 1)) return;
  event.preventDefault();
  const [row, column] = centre || [canvas.height / 2, canvas.width / 2];
  looked(row + (step[0] * canvas.height) / 32, column + (step[1] * canvas.width) / 32);
});
element("save-mask").addEventListener("click", () => saved(maskOf(), "mask"));
element("save-map").addEventListener("click", () => saved(found.map, "probability"));
document.body.dataset.state = "loading";
start().catch((error) => failed(`${error.message} A newer browser may help: Chrome 103, Firefox 113, Safari 16.4 or later.`));
