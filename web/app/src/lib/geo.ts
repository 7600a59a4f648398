// Distances on the sphere, and how the viewer's units write them.

export interface Point {
  lat: number;
  lng: number;
}

const EARTH = 6_371_008.8; // mean radius in metres (IUGG)
const rad = (degrees: number) => (degrees * Math.PI) / 180;
const deg = (radians: number) => (radians * 180) / Math.PI;

/** Great-circle distance in metres (haversine). */
export function distance(a: Point, b: Point): number {
  const dLat = rad(b.lat - a.lat);
  const dLng = rad(b.lng - a.lng);
  const h = Math.sin(dLat / 2) ** 2 + Math.cos(rad(a.lat)) * Math.cos(rad(b.lat)) * Math.sin(dLng / 2) ** 2;
  return 2 * EARTH * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** The point that lies `east` and `north` metres away: good for steps of a pin. */
export function shift(p: Point, east: number, north: number): Point {
  const lat = Math.max(-85, Math.min(85, p.lat + deg(north / EARTH)));
  const lng = p.lng + deg(east / (EARTH * Math.cos(rad(p.lat))));
  return { lat, lng: wrapLng(lng) };
}

/** The point that lies so many metres away in a direction (degrees from true north), along a great circle. */
export function destination(p: Point, direction: number, metres: number): Point {
  const [lat, d, b] = [rad(p.lat), metres / EARTH, rad(direction)];
  const to = Math.asin(Math.sin(lat) * Math.cos(d) + Math.cos(lat) * Math.sin(d) * Math.cos(b));
  const dLng = Math.atan2(Math.sin(b) * Math.sin(d) * Math.cos(lat), Math.cos(d) - Math.sin(lat) * Math.sin(to));
  return { lat: deg(to), lng: wrapLng(p.lng + deg(dLng)) };
}

const winds = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

/** The wind nearest to a direction in degrees from true north. */
export function wind(direction: number): string {
  return winds[Math.round((((direction % 360) + 360) % 360) / 45) % 8] ?? "north";
}

/** Longitude in [-180, 180). */
export function wrapLng(lng: number): number {
  return ((((lng + 180) % 360) + 360) % 360) - 180;
}

/** The longitude nearest to `near` that means the same as `lng`: lines take the short way round. */
export function nearLng(lng: number, near: number): number {
  return lng + Math.round((near - lng) / 360) * 360;
}

const turn = 3; // degrees of longitude between two points of an arc

/** Points on the great circle from a to b, without a and with b, as many as make it look round on a flat map. */
export function arc(a: Point, b: Point): Point[] {
  const steps = Math.ceil(Math.abs(nearLng(b.lng, a.lng) - a.lng) / turn);
  const [from, to] = [vector(a), vector(b)];
  const angle = distance(a, b) / EARTH;
  const out: Point[] = [];
  for (let i = 1; i < steps; i++) {
    const [u, v] = [Math.sin(angle * (1 - i / steps)), Math.sin(angle * (i / steps))];
    const [x, y, z] = [from.x * u + to.x * v, from.y * u + to.y * v, from.z * u + to.z * v];
    out.push({ lat: deg(Math.atan2(z, Math.hypot(x, y))), lng: deg(Math.atan2(y, x)) });
  }
  return [...out, b];
}

function vector(p: Point) {
  const [lat, lng] = [rad(p.lat), rad(p.lng)];
  return { x: Math.cos(lat) * Math.cos(lng), y: Math.cos(lat) * Math.sin(lng), z: Math.sin(lat) };
}

/** Ground metres per CSS pixel of a Web Mercator map with tiles of 512 px. */
export function metresPerPixel(lat: number, zoom: number): number {
  return (2 * Math.PI * EARTH * Math.cos(rad(lat))) / (512 * 2 ** zoom);
}

export type Units = "metric" | "imperial";

/** Countries whose roads are signed in miles. */
const MILES = new Set(["US", "GB", "LR", "MM"]);

/** The units a locale such as "en-GB" is used to. */
export function unitsOf(locale: string): Units {
  const region = new Intl.Locale(locale).maximize().region ?? "";
  return MILES.has(region) ? "imperial" : "metric";
}

/** "12 m", "850 m", "1.2 km", "340 km", or "40 ft", "0.3 mi", "210 mi". */
export function formatDistance(metres: number, units: Units): string {
  if (units === "metric") {
    if (metres < 995) return `${Math.round(metres < 100 ? metres : metres / 10) * (metres < 100 ? 1 : 10)} m`;
    return `${short(metres / 1000)} km`;
  }
  const feet = metres / 0.3048;
  if (feet < 995) return `${Math.round(feet < 100 ? feet : feet / 10) * (feet < 100 ? 1 : 10)} ft`;
  return `${short(metres / 1609.344)} mi`;
}

function short(n: number): string {
  return n < 10 ? n.toFixed(1) : Math.round(n).toLocaleString("en");
}
