// Line icons on a 24 px grid, drawn with the text's colour. Decorative: what
// they stand on carries the label.

const paths = {
  locate: "M12 2v3m0 14v3M2 12h3m14 0h3M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8Z",
  pin: "M12 21s7-7.5 7-12a7 7 0 1 0-14 0c0 4.5 7 12 7 12Zm0-9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Zm-6.5 9a6.5 6.5 0 0 1 13 0M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14a6.5 6.5 0 0 1 3.5 6",
  chat: "M4 5h16v11H9l-5 4V5Z",
  group: "M4 7h16M4 12h16M4 17h10",
  gear: "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6Zm8.5 3-.1-1.5 1.8-1.4-2-3.4-2.1.8a8 8 0 0 0-2.6-1.5L15 2H9l-.5 3a8 8 0 0 0-2.6 1.5l-2.1-.8-2 3.4 1.8 1.4a8 8 0 0 0 0 3l-1.8 1.4 2 3.4 2.1-.8a8 8 0 0 0 2.6 1.5l.5 3h6l.5-3a8 8 0 0 0 2.6-1.5l2.1.8 2-3.4-1.8-1.4.1-1.5Z",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  grid: "M12 2.5 20.2 7.2v9.5L12 21.5l-8.2-4.8V7.2L12 2.5Z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  qr: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 14h2M14 18v2M18 18h2v2h-2z",
  close: "M6 6l12 12M18 6 6 18",
  back: "M14.5 5 7.5 12l7 7",
  send: "M4 12 20 4l-5 16-3-7-8-1Z",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  open: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  door: "M14 4H5v16h9M10 12h11m-4-4 4 4-4 4",
  stop: "M7 7h10v10H7z",
  share: "M12 14V3m-4 4 4-4 4 4M5 12v8h14v-8",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm-7 8.5a7 7 0 0 1 14 0",
  link: "M10 14a4 4 0 0 0 5.7 0l3.1-3.1a4 4 0 0 0-5.7-5.7L12 6.3M14 10a4 4 0 0 0-5.7 0l-3.1 3.1a4 4 0 0 0 5.7 5.7l1.1-1.1",
  radar: "M12 13a1 1 0 1 0 0-2 1 1 0 0 0 0 2Zm-3.5 2.5a5 5 0 0 1 0-7m7 0a5 5 0 0 1 0 7m-9.9 2.9a9 9 0 0 1 0-12.8m12.8 0a9 9 0 0 1 0 12.8",
  home: "M4 11.5 12 4l8 7.5M6 10v10h12V10",
  arrow: "M12 21V4m-5.5 6L12 4l5.5 6",
  route: "M6 21a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM18 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM15.5 5.5H10a3.5 3.5 0 0 0 0 7h4a3 3 0 0 1 0 6H8.5",
  bell: "M6 16.5V11a6 6 0 1 1 12 0v5.5l1.5 2h-15l1.5-2ZM10 21h4",
  pencil: "M4 20l1-4L16 5l3 3L8 19l-4 1Z",
  clip: "M8 12.5 14.5 6a3 3 0 0 1 4.3 4.2l-8 8a5 5 0 0 1-7.1-7L11 4",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14Zm5-2 5 5",
  coins: "M9 12a5 3 0 1 0 0-6 5 3 0 0 0 0 6Zm-5-3v8c0 1.7 2.2 3 5 3s5-1.3 5-3V9M4 13c0 1.7 2.2 3 5 3s5-1.3 5-3m0-2.5c.6-.2 1.3-.3 2-.3 2.2 0 4 1 4 2.3v5.5c0 1.3-1.8 2.5-4 2.5",
  phone: "M5 4h4l1.5 4.5L8 10.2a12 12 0 0 0 5.8 5.8l1.7-2.5L20 15v4c0 .8-.5 1-1 1A15 15 0 0 1 4 5c0-.5.2-1 1-1Z",
  hangup: "M3 14.5c5-4.7 13-4.7 18 0l-2.4 2.6-3.6-1.6v-2.6a11 11 0 0 0-6 0v2.6l-3.6 1.6L3 14.5Z",
  mic: "M12 14a3 3 0 0 0 3-3V6a3 3 0 1 0-6 0v5a3 3 0 0 0 3 3Zm-6-3a6 6 0 0 0 12 0M12 17v4",
  micOff: "M15 10V6a3 3 0 0 0-5.8-1M9 9v2a3 3 0 0 0 4.5 2.6M6 11a6 6 0 0 0 9.5 4.9M18 11c0 .9-.2 1.7-.5 2.4M12 17v4M4 3l16 18",
  speaker: "M4 9.5v5h3.5L12 18V6L7.5 9.5H4Zm12-1a5 5 0 0 1 0 7m2.5-9.5a8.5 8.5 0 0 1 0 12",
  speakerOff: "M4 9.5v5h3.5L12 18V6L7.5 9.5H4Zm12 .5 5 5m0-5-5 5",
  camera: "M3 7h11v10H3V7Zm11 3.5 7-3.5v10l-7-3.5",
  cameraOff: "M7 7H3v10h11v-3M11 7h3v3.5L21 7v10l-3-1.5M4 3l16 18",
  screen: "M3 5h18v11H3V5Zm6 15h6m-3-4v4",
  music: "M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Zm10-2a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Z",
  lock: "M6 11h12v9H6v-9Zm2 0V8a4 4 0 1 1 8 0v3",
  signal: "M5 19v-3M10 19v-7M15 19V8M20 19V4",
  tiles: "M4 5h7v6H4V5Zm9 0h7v6h-7V5ZM4 13h7v6H4v-6Zm9 0h7v6h-7v-6Z",
  tack: "M9 3h6l-1 6 4 4H6l4-4-1-6ZM12 13v8",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}
