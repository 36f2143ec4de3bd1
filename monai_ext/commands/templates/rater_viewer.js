// Cases with several raters: outlines of raters and prediction, shares, disagreement beside uncertainty.
const COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2"];
const PREDICTED = "#FFFFFF";

async function loaded(record) {  // a case with its pixels; masks are bits, slices lie beside each other in one picture
  const values = async source => {
    const {data: rgba} = await pixels(source);
    const levels = new Uint8Array(rgba.length / 4);
    for (let at = 0; at < levels.length; at++) levels[at] = rgba[4 * at];
    return levels;
  };
  const image = canvasOf(await pixels(record.image));
  const probability = record.probability && await values(record.probability);
  const planes = await Promise.all(record.planes.map(values));
  const {width, height, raters, sets, across} = record, made = new Map();
  const kept = (key, make) => made.get(key) ?? made.set(key, make()).get(key);
  const corner = slice => ({x: slice % across * width, y: Math.floor(slice / across) * height});
  const place = (slice, at) => {  // in the picture of all slices
    const {x, y} = corner(slice);
    return (y + Math.floor(at / width)) * across * width + x + at % width;
  };
  const bit = (mask, slice, at) => planes[mask >> 3][place(slice, at)] >> (mask & 7) & 1;
  const share = (from, count, slice, at) => {
    let sum = 0;
    for (let mask = from; mask < from + count; mask++) sum += bit(mask, slice, at);
    return sum / count;
  };
  const shares = {
    raters: (slice, at) => share(0, raters.length, slice, at),
    prediction: (slice, at) => probability ? probability[place(slice, at)] / 255
      : share(raters.length, sets.length, slice, at),
  };
  return {
    ...record, shares, bit,
    draw: (context, slice) => {
      const {x, y} = corner(slice);
      context.drawImage(image, x, y, width, height, 0, 0, width, height);
    },
    map: (who, spread, slice) => kept(`${who} ${spread} ${slice}`, () => mapOf(width, height, at => {
      const value = shares[who](slice, at);
      return spread ? 4 * value * (1 - value) : value;
    })),
    outline: (mask, slice) => kept(`${mask} ${slice}`, () => mask === null
      ? edges(width, height, at => shares.prediction(slice, at) >= 0.5)
      : edges(width, height, at => bit(mask, slice, at))),
  };
}

function edges(width, height, inside) {  // the border of a mask along the edges of its pixels
  const wide = width + 2, grid = new Uint8Array(wide * (height + 2)), path = new Path2D();
  for (let at = 0; at < width * height; at++) grid[(Math.floor(at / width) + 1) * wide + at % width + 1] = inside(at);
  for (let row = 0; row <= height; row++)
    for (let column = 0; column <= width; column++) {
      const here = (row + 1) * wide + column + 1;
      if (grid[here] !== grid[here - wide]) {
        path.moveTo(column, row);
        path.lineTo(column + 1, row);
      }
      if (grid[here] !== grid[here - 1]) {
        path.moveTo(column, row);
        path.lineTo(column, row + 1);
      }
    }
  return path;
}

async function start() {
  const panels = new Panels(showPixel), predicted = data.cases[0].prediction;
  let order = data.cases.map((_, i) => i), shownCase = null, wanted = -1;
  const cases = find("cases"), sort = find("sort"), one = element("option");
  const slices = slider("slices", panels, ["PageUp", "PageDown"], show);
  const raters = slider("raters", panels, ["R", "r"], show);
  const samples = slider("samples", panels, [",", "."], show);
  const current = () => Number(cases.value);
  const step = by => {
    const place = order.indexOf(current()) + by;
    if (order[place] !== undefined) open(order[place]);
  };
  Object.assign(panels.keys, {p: () => step(-1), n: () => step(1)});
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  cases.addEventListener("change", () => open(current()));
  sort.addEventListener("change", () => list());
  window.addEventListener("hashchange", () => named() >= 0 && open(named()));
  const named = () => data.cases.findIndex(each => each.name === decodeURIComponent(location.hash.slice(1)));

  for (const each of document.querySelectorAll(".predicted")) each.hidden = !predicted;
  find("order").hidden = data.cases.length < 2;
  if (!predicted) sort.querySelector("[value=dice]").remove();
  legend(find("share_scale"), "0", "1", "");
  legend(find("mean_scale"), "0", "1", "");
  legend(find("split_scale"), "0", "0.25", "s(1 − s)");
  legend(find("doubt_scale"), "0", "0.25", "p(1 − p)");
  if (predicted) play("play", samples, show, () => choices("samples").length - shownCase.sets.length, () => Number(samples.max));

  const draws = {
    image: () => {},
    all: (context, pixel) => {
      shownCase.raters.forEach((_, i) => stroke(context, i, colourOf(i), pixel));
      if (predicted) stroke(context, null, PREDICTED, pixel);
    },
    single: (context, pixel) => chosen("raters").forEach(i => stroke(context, i, colourOf(i), pixel)),
    guess: (context, pixel) => chosen("samples").forEach(mask => stroke(context, mask, colourOfMask(mask), pixel)),
  };
  for (const [id, outlines] of Object.entries(draws))
    if (predicted || id === "image" || id === "single") panels.add(id, (context, pixel) => {
      shownCase.draw(context, slice());
      outlines(context, pixel);
    });
  const maps = {share: ["raters", false], mean: ["prediction", false], split: ["raters", true], doubt: ["prediction", true]};
  for (const [id, [who, spread]] of Object.entries(maps))
    if (who === "raters" || predicted)
      panels.add(id, context => context.drawImage(shownCase.map(who, spread, slice()), 0, 0));

  const slice = () => Number(slices.value);
  const colourOf = i => COLOURS[data.raters.indexOf(shownCase.raters[i]) % COLOURS.length];
  const colourOfMask = mask => {
    const name = mask === null ? "" : shownCase.sets[mask - shownCase.raters.length].replace("head", "rater");
    const own = data.raters.indexOf(name);
    return own < 0 ? PREDICTED : COLOURS[own % COLOURS.length];
  };
  function stroke(context, mask, colour, pixel, wide = 1.5 * pixel) {
    const path = shownCase.outline(mask, slice());
    for (const [each, line] of [["#000", wide + 1.5 * pixel], [colour, wide]]) {
      context.strokeStyle = each;
      context.lineWidth = line;
      context.globalAlpha = each === "#000" ? 0.5 : 1;
      context.stroke(path);
    }
    context.globalAlpha = 1;
  }
  function choices(which) {  // name -> numbers of masks; null is where the probability reaches 0.5
    const count = shownCase.raters.length;
    if (which === "raters")
      return [["all raters", shownCase.raters.map((_, i) => i)], ...shownCase.raters.map((name, i) => [name, [i]])];
    const masks = shownCase.sets.map((name, i) => [name, [count + i]]);
    const all = masks.length ? [[`all ${masks.length} ${data.set}`, masks.map(([, [mask]]) => mask)]] : [];
    return [[`${data.mean} ≥ 0.5`, [null]], ...all, ...masks];
  }
  const chosen = which => choices(which)[Number(which === "raters" ? raters.value : samples.value)][1];

  async function open(number) {
    wanted = number;
    cases.value = number;
    const found = await loaded(data.cases[number]);
    if (wanted !== number) return;  // another one was chosen meanwhile
    const first = shownCase === null;
    shownCase = found;
    slices.max = found.slices.length - 1;
    slices.value = found.middle;
    find("volume").hidden = found.slices.length < 2;
    raters.max = found.raters.length;
    samples.max = choices("samples").length - 1;
    find("facts").textContent = found.facts;
    find("swatches").replaceChildren(...[...found.raters.map((name, i) => [name, colourOf(i)]),
      ...(predicted ? [[`${data.mean} ≥ 0.5`, PREDICTED]] : [])].map(([name, colour]) => {
      const item = element("span"), swatch = element("span");
      swatch.className = "swatch";
      swatch.style.background = colour;
      item.append(swatch, name);
      return item;
    }));
    if (!first) history.replaceState(null, "", `#${encodeURIComponent(found.name)}`);
    panels.size(found.width, found.height);
    show();
  }
  function list() {
    const key = sort.value, value = i => data.cases[i][key] ?? Infinity;
    order = data.cases.map((_, i) => i);
    if (key) order.sort((a, b) => value(a) - value(b));
    const old = cases.value;
    cases.replaceChildren(...order.map(i => {
      const score = key && data.cases[i][key] != null ? `, ${data.cases[i][key].toFixed(2)}` : "";
      return Object.assign(element("option", data.cases[i].name + score), {value: i});
    }));
    cases.value = old === "" ? order[0] : old;
  }
  function show() {
    find("slice").textContent = `slice ${shownCase.slices[slice()] + 1} of ${shownCase.depth}`;
    find("rater").textContent = choices("raters")[Number(raters.value)][0];
    if (predicted) find("sample").textContent = choices("samples")[Number(samples.value)][0];
    const {column, row} = panels.mark;
    panels.go(column < shownCase.width ? column : 0, row < shownCase.height ? row : 0);
  }
  function showPixel({column, row}) {
    const at = row * shownCase.width + column, {bit, shares, raters: names, sets} = shownCase;
    const yes = names.filter((_, i) => bit(i, slice(), at)), share = shares.raters(slice(), at);
    let text = `Row ${row}, column ${column}: marked by ${yes.length} of ${names.length} raters` +
      (yes.length && yes.length < names.length ? ` (${yes.join(", ")})` : "") +
      `, disagreement ${shown(share * (1 - share))}.`;
    if (predicted) {
      const p = shares.prediction(slice(), at), count = sets.filter((_, i) => bit(names.length + i, slice(), at)).length;
      text += ` ${data.mean} ${shown(p)}, uncertainty ${shown(p * (1 - p))}` +
        (sets.length ? `; marked by ${count} of ${sets.length} ${data.set}.` : ".");
    }
    find("where").textContent = text;
  }
  find("mean_name").textContent = data.mean;
  list();
  await open(Math.max(0, named()));
  panels.go(shownCase.width >> 1, shownCase.height >> 1);
}
start();
