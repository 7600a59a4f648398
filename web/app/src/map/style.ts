import type { StyleSpecification } from "maplibre-gl";

// The looks of the basemap: quiet, so that people stand out. Text has no
// glyphs URL, so MapLibre draws it with the system's fonts and nothing is
// fetched from elsewhere.

export interface Palette {
  water: string;
  land: string;
  shore: string;
  border: string;
  text: string;
  halo: string;
  accent: string; // as in base.css
  casing: string; // of trails
}

export const palettes: Record<"light" | "dark", Palette> = {
  light: {
    water: "#dbe7ec", land: "#f8f7f3", shore: "#b9ccd4", border: "#cfcabd",
    text: "#4c5a63", halo: "#f8f7f3", accent: "#0a6c74", casing: "#ffffff",
  },
  dark: {
    water: "#0c1418", land: "#1b2429", shore: "#34454e", border: "#3a474f",
    text: "#a4b3bc", halo: "#151d21", accent: "#4fc3cc", casing: "#8b9aa3",
  },
};

const none = { type: "FeatureCollection" as const, features: [] };

export function style(p: Palette): StyleSpecification {
  return {
    version: 8,
    sources: {
      land: { type: "geojson", data: none, attribution: "Natural Earth" },
      borders: { type: "geojson", data: none },
      grid: { type: "geojson", data: none },
      cells: { type: "geojson", data: none },
      fences: { type: "geojson", data: none },
      plans: { type: "geojson", data: none },
      track: { type: "geojson", data: none },
      places: { type: "geojson", data: none, attribution: "GeoNames (CC BY 4.0)" },
    },
    layers: [
      { id: "water", type: "background", paint: { "background-color": p.water } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": p.land, "fill-outline-color": p.shore } },
      {
        id: "borders", type: "line", source: "borders",
        paint: { "line-color": p.border, "line-width": ["interpolate", ["linear"], ["zoom"], 1, 0.5, 8, 1.6] },
      },
      { id: "grid", type: "line", source: "grid", paint: { "line-color": p.accent, "line-width": 1, "line-opacity": 0.28 } },
      // Where somebody is who tells it coarsely: anywhere in it.
      { id: "cells", type: "fill", source: "cells", paint: { "fill-color": ["coalesce", ["get", "color"], p.accent], "fill-opacity": 0.22 } },
      { id: "cell-edges", type: "line", source: "cells", paint: { "line-color": ["coalesce", ["get", "color"], p.accent], "line-width": 2, "line-opacity": 0.8 } },
      { id: "fences", type: "fill", source: "fences", paint: { "fill-color": p.text, "fill-opacity": 0.08 } },
      { id: "fence-edges", type: "line", source: "fences", paint: { "line-color": p.text, "line-width": 1.5, "line-dasharray": [3, 2] } },
      // What only the viewer sees: zones, a place that is being drawn, an area that would be told.
      { id: "plans", type: "fill", source: "plans", paint: { "fill-color": p.accent, "fill-opacity": 0.14 } },
      { id: "plan-edges", type: "line", source: "plans", paint: { "line-color": p.accent, "line-width": 2, "line-dasharray": [2, 1.5] } },
      // Where the viewer was, for the viewer alone.
      {
        id: "track-gaps", type: "line", source: "track", filter: ["==", ["get", "gap"], true],
        paint: { "line-color": p.text, "line-width": 2, "line-opacity": 0.7, "line-dasharray": [1, 2] },
      },
      {
        id: "track-casing", type: "line", source: "track", filter: ["==", ["get", "gap"], false],
        layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": p.halo, "line-width": 7 },
      },
      {
        id: "track", type: "line", source: "track", filter: ["==", ["get", "gap"], false],
        layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": p.accent, "line-width": 4 },
      },
      {
        id: "track-ends", type: "circle", source: "track", filter: ["has", "end"],
        paint: {
          "circle-color": ["match", ["get", "end"], "first", p.halo, p.accent], "circle-radius": ["match", ["get", "end"], "", 3.5, 6],
          "circle-stroke-color": ["match", ["get", "end"], "last", p.halo, p.accent], "circle-stroke-width": ["match", ["get", "end"], "", 0, 3],
        },
      },
      {
        id: "places", type: "symbol", source: "places",
        filter: ["<=", ["get", "zoom"], ["+", ["zoom"], 0.01]],
        layout: {
          "text-field": ["get", "name"],
          "text-font": ["sans-serif"],
          "text-size": ["interpolate", ["linear"], ["get", "population"], 0, 11, 100000, 12.5, 5000000, 15],
          "text-padding": 6,
          "text-max-width": 8,
          "symbol-sort-key": ["-", 0, ["get", "population"]],
        },
        paint: { "text-color": p.text, "text-halo-color": p.halo, "text-halo-width": 1.4 },
      },
      {
        id: "fence-names", type: "symbol", source: "fences", filter: ["has", "name"], minzoom: 9,
        layout: { "text-field": ["get", "name"], "text-font": ["sans-serif"], "text-size": 13, "text-max-width": 9 },
        paint: { "text-color": p.text, "text-halo-color": p.halo, "text-halo-width": 1.6 },
      },
    ],
  };
}
