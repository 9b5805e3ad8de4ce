// Unpacks the drawing library, draws every figure in the colours of the current theme,
// and draws again when the theme changes.
(() => {
  const root = document.documentElement;
  const read = (id) => document.getElementById(id).textContent;
  const figures = JSON.parse(read("figures"));

  const themed = (part, style) => {
    if (typeof part === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(part);
      return name ? style.getPropertyValue(name[1]).trim() : part;
    }
    if (Array.isArray(part)) return part.map((each) => themed(each, style));
    if (part && typeof part === "object") {
      return Object.fromEntries(Object.entries(part).map(([k, v]) => [k, themed(v, style)]));
    }
    return part;
  };

  const manner = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    hovermode: "closest", dragmode: false, margin: { l: 8, r: 14, t: 14, b: 8 },
    font: { color: "var(--muted)", size: 12.5 },
    hoverlabel: {
      bgcolor: "var(--card)", bordercolor: "var(--rule)", align: "left",
      font: { color: "var(--ink)", size: 13 },
    },
  };
  const config = { displayModeBar: false, responsive: true, doubleClick: false };

  const draw = async () => {
    const style = getComputedStyle(root);
    const family = getComputedStyle(document.body).fontFamily;
    await Promise.all(Object.entries(figures).map(([key, figure]) => {
      const place = document.querySelector(`[data-chart="${key}"]`);
      const { data, layout } = themed({ ...figure, layout: { ...manner, ...figure.layout } }, style);
      layout.font.family = layout.hoverlabel.font.family = family;
      return Plotly.react(place, data, layout, config);
    }));
    root.dataset.charts = "drawn";
  };

  const unpack = async () => {
    const bytes = Uint8Array.from(atob(read("plotly")), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  const give_up = () => {
    root.dataset.charts = "failed";
    document.querySelectorAll(".plot").forEach((place) => {
      place.textContent = "This browser cannot draw the chart; its numbers are below.";
      place.style.minHeight = "0";
    });
    document.querySelectorAll("figure details").forEach((details) => { details.open = true; });
  };

  unpack().then(draw).then(() => {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }).catch(give_up);
})();
