// A part of an image: its samples, maps of standard deviations, and the values of the marked pixel.
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
  const {width, height} = layers.mean, bands = data.bands.length, kinds = data.deviations, range = data.high - data.low;
  const samples = Object.keys(layers).filter(name => name.startsWith("sample "));
  const target = Object.keys(layers).filter(name => name === "original");
  const images = ["mean", ...samples, ...target];
  const bounds = "lower" in layers ? [`${data.interval} from`, "to"] : [];
  const value = (name, at, band) => data.low + layers[name].data[4 * at + band] / 255 * range;
  const deviation = (name, at, band) => layers[name].data[4 * at + band] * data.deviation_step * range;
  const whole = (name, at) => {  // root of the bands' mean variance
    let sum = 0;
    for (let band = 0; band < bands; band++) sum += deviation(name, at, band) ** 2;
    return Math.sqrt(sum / bands);
  };
  let most = 0;
  for (const name of kinds)
    for (let at = 0; at < width * height; at++) if (isKnown(at)) most = Math.max(most, whole(name, at));
  const made = {};  // what has been shown, as canvases
  const imageOf = name => made[name] ??= canvasOf(layers[name]);
  const mapOfKind = name => made[name] ??= mapOf(width, height, at => whole(name, at) / (most || 1), isKnown);

  const panels = new Panels(showPixel), lowCanvas = canvasOf(low), kind = find("kind");
  const number = slider("number", panels, [",", "."], showImage);
  number.max = images.length - 1;
  kind.replaceChildren(...kinds.map(name => element("option", name)));
  kind.value = "total";
  kind.addEventListener("change", () => panels.draw());
  find("about").textContent = data.about;
  find("values").textContent = `${data.bands.join(", ")}: ${shown(data.low)} to ${shown(data.high)} ${data.unit}`;
  legend(find("scale"), "0", shown(most), data.unit);
  find("play").hidden = samples.length < 2;
  play("play", number, showImage, () => 1, () => samples.length);
  panels.add("low", context => {
    context.imageSmoothingEnabled = false;
    context.drawImage(lowCanvas, 0, 0, width, height);
  });
  panels.add("image", context => context.drawImage(imageOf(images[number.value]), 0, 0));
  panels.add("map", context => context.drawImage(mapOfKind(kind.value), 0, 0));

  function showImage() {
    find("name").textContent = images[number.value];
    find("image").setAttribute("aria-label", images[number.value]);
    panels.draw();
  }
  function showPixel({column, row}) {
    const at = row * width + column;
    find("where").textContent = `Pixel in row ${row}, column ${column}` + (isKnown(at) ? "" : ": missing in the image");
    find("rows").replaceChildren();
    find("plot").replaceChildren();
    if (!isKnown(at)) return;
    const drawn = samples.length ? ["samples from", "to"] : [];
    const heads = ["band", ...target, "mean", ...bounds, ...drawn, ...kinds.map(name => `${name} sd`)];
    find("head").replaceChildren(...heads.map(text => element("th", text)));
    find("rows").replaceChildren(...data.bands.map((band, place) => {
      const each = samples.map(name => value(name, at, place));
      const numbers = [...[...target, "mean", ...bounds.map((_, i) => ["lower", "upper"][i])]
        .map(name => value(name, at, place)), ...(drawn.length ? [Math.min(...each), Math.max(...each)] : []),
        ...kinds.map(name => deviation(name, at, place))];
      const line = element("tr");
      line.append(element("th", band), ...numbers.map(each => element("td", shown(each))));
      return line;
    }));
    plot(at);
  }
  function plot(at) {
    const svg = find("plot"), left = 60, wide = svg.clientWidth - left - 10;
    svg.setAttribute("height", 30 * bands + 26);
    const place = each => left + (each - data.low) / range * wide;
    const add = (tag, attributes, text = "") => {
      const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, each] of Object.entries(attributes)) part.setAttribute(key, each);
      part.textContent = text;
      svg.append(part);
    };
    const mark = (each, y, colour) =>
      add("line", {x1: place(each), x2: place(each), y1: y - 8, y2: y + 8, stroke: colour, "stroke-width": 2});
    data.bands.forEach((band, i) => {
      const y = 30 * i + 16;
      add("text", {x: 0, y: y + 4}, band);
      add("line", {x1: left, x2: left + wide, y1: y, y2: y, stroke: "var(--line)"});
      if (bounds.length) {
        const [from, to] = ["lower", "upper"].map(name => place(value(name, at, i)));
        add("line", {x1: from, x2: to, y1: y, y2: y, stroke: "var(--accent)", "stroke-width": 7, "stroke-opacity": 0.5});
      }
      for (const name of samples)
        add("circle", {cx: place(value(name, at, i)), cy: y, r: 3, fill: "var(--second)", "fill-opacity": 0.8});
      for (const name of target) mark(value(name, at, i), y, "#009E73");
      mark(value("mean", at, i), y, "currentColor");
    });
    add("text", {x: left, y: 30 * bands + 20}, shown(data.low));
    add("text", {x: left + wide, y: 30 * bands + 20, "text-anchor": "end"}, `${shown(data.high)} ${data.unit}`);
  }
  find("key").textContent = "Line: mean" + (target.length ? " (green: original)" : "") + "; dots: samples" +
    (bounds.length ? `; bar: ${data.interval}` : "") + ".";
  panels.size(width, height);
  showImage();
  panels.go(width >> 1, height >> 1);
}
start();
