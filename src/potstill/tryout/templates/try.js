// Sends a question and shows the answers. Nothing that comes from data is read as HTML.
const settings = JSON.parse(document.getElementById("settings").textContent);
const place = (id) => document.getElementById(id);
const told = document.querySelector(".told");

const say = (words, wrong = false) => {
  place("status").textContent = words;
  place("status").classList.toggle("wrong", wrong);
};

const milliseconds = (ms) => (ms < 1 ? `${ms.toPrecision(2)} ms` : ms < 100 ? `${ms.toPrecision(3)} ms` : `${Math.round(ms)} ms`);

const show_part = (id, is_there, fill) => {
  place(id).hidden = !is_there;
  if (is_there) fill(place(id));
};

const show_seen = ({ picture, truth }) => {
  show_part("seen-image", picture.image, (e) => { e.src = picture.image; });
  show_part("seen-sound", picture.sound, (e) => { e.src = picture.sound; });
  show_part("seen-text", picture.text, (e) => { e.textContent = picture.text; });
  show_part("seen-truth", truth, (e) => { e.querySelector("b").textContent = truth; });
  show_part("seen-lines", picture.lines.length, (e) => {
    e.replaceChildren(...picture.lines.map((points) => {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("points", points);
      return line;
    }));
  });
  place("seen").hidden = !(picture.image || picture.sound || picture.text || picture.lines.length || truth);
};

const guess_row = ({ label, probability }) => {
  const row = document.createElement("div");
  row.className = "guess";
  const name = document.createElement("span");
  name.textContent = label;
  row.append(name);
  if (probability !== null) {
    row.style.setProperty("--p", (100 * probability).toFixed(1));
    const share = document.createElement("em");
    share.textContent = `${(100 * probability).toFixed(1)}%`;
    row.append(share);
  }
  return row;
};

const show_answer = (answer) => {
  const card = document.querySelector(`[data-model="${CSS.escape(answer.name)}"]`);
  card.querySelector(".ms").textContent = milliseconds(answer.ms);
  card.querySelector(".engine").textContent = answer.engine;
  card.querySelector(".guesses").replaceChildren(...answer.guesses.map(guess_row));
  card.querySelector(".agrees").textContent =
    answer.agrees === null ? "" : answer.agrees ? "Agrees with the teacher." : "Differs from the teacher.";
};

const ask = async (question) => {
  const begin = performance.now();
  told.setAttribute("aria-busy", "true");
  try {
    const response = await fetch("/ask", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Potstill-Key": settings.key },
      body: JSON.stringify(question),
    });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    show_seen(found);
    found.answers.forEach(show_answer);
    say(found.answers.map((a) => `${a.name}: ${a.said || "nothing"}`).join("; "));
    const models = found.answers.reduce((sum, a) => sum + a.ms, 0);
    const all = performance.now() - begin;
    place("times").textContent = `${milliseconds(all)} in all: ${milliseconds(models)} the models one after the other, ${milliseconds(all - models)} everything else.`;
    document.documentElement.dataset.beyond = String(all - models);
    document.documentElement.dataset.asked = String(1 + Number(document.documentElement.dataset.asked || 0));
  } catch (error) {
    say(error instanceof TypeError ? "Potstill does not answer any more; start `potstill try` again." : error.message, true);
  } finally {
    told.removeAttribute("aria-busy");
  }
};

const base64 = (bytes) => {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
};

const mark_current = (button) => {
  document.querySelectorAll("[data-sample]").forEach((each) => each.removeAttribute("aria-current"));
  if (button) button.setAttribute("aria-current", "true");
};

document.querySelectorAll("[data-sample]").forEach((button) => {
  button.addEventListener("click", () => {
    const number = Number(button.dataset.sample);
    mark_current(button);
    (settings.rows[number] || []).forEach((value, i) => { place(`field-${i}`).value = value; });
    if (settings.kind === "image") last_file = null;
    ask({ kind: "sample", number });
  });
});

const submitted = (id, make) => {
  const form = place(id);
  if (!form) return;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    mark_current(null);
    ask(make(form));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
};
submitted("write", (form) => ({ kind: "text", texts: [...form.querySelectorAll("textarea")].map((e) => e.value) }));
submitted("numbers", () => ({ kind: "signal", values: place("values").value.split(/[\s,;]+/).filter(Boolean) }));
submitted("row", (form) => ({
  kind: "row",
  values: Object.fromEntries([...form.elements].filter((e) => e.name).map((e) => [e.name, e.value === "" ? null : e.tagName === "SELECT" ? e.value : Number(e.value)])),
}));

let last_file = null;
const take_picture = async (file) => {
  last_file = file;
  mark_current(null);
  const invert = place("invert") !== null && place("invert").checked;
  await ask({ kind: "image", file: base64(new Uint8Array(await file.arrayBuffer())), invert });
};
let take = take_picture;

const drop = place("drop");
if (drop) {
  place("file").addEventListener("change", () => { if (place("file").files.length) take(place("file").files[0]); });
  ["dragover", "dragleave", "drop"].forEach((name) => document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  }));
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) take(event.clipboardData.files[0]); });
}
if (place("invert")) place("invert").addEventListener("change", () => { if (last_file) take(last_file); });
