import { useEffect, useRef } from "preact/hooks";

/** A track of pictures. Its sound, if any, is played elsewhere. */
export function Picture({ track, mirror, label }: { track: MediaStreamTrack; mirror: boolean; label: string }) {
  const ref = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = ref.current;
    if (!video) return;
    video.srcObject = new MediaStream([track]);
    video.play().catch(() => {}); // it goes on when the page may play
    return () => void (video.srcObject = null);
  }, [track]);
  return <video ref={ref} class={mirror ? "mirror" : ""} muted autoplay playsInline aria-label={label} />;
}
