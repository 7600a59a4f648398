// Package gpx reads tracks from GPX files (GPS Exchange Format, version 1.0 and
// 1.1: www.topografix.com/GPX/1/0 and /1/1). It takes what is needed to play a
// track, points with their times, and leaves out waypoints, routes and
// extensions. Elements are told by their name whatever their namespace, since
// recorders in the field disagree about it.
package gpx

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mustermesh/muster/geo"
)

// Point is a place at a time.
type Point struct {
	geo.Point
	Time time.Time // zero: not recorded
}

// Segment is a run of points that were recorded without interruption.
type Segment []Point

// Timed reports whether every point has its time: only then can the segment be
// played.
func (s Segment) Timed() bool {
	for _, p := range s {
		if p.Time.IsZero() {
			return false
		}
	}
	return true
}

// Read returns the segments of all tracks of a file, in the file's order,
// without the empty ones. A point that makes no sense is an error that names
// its line.
func Read(r io.Reader) ([]Segment, error) {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("gpx: encoding %q: use UTF-8", charset)
	}
	var segments []Segment
	var current Segment
	root := false
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			if !root {
				return nil, errors.New("gpx: no <gpx> element")
			}
			return segments, nil
		}
		if err != nil {
			return nil, fmt.Errorf("gpx: %w", err)
		}
		switch e := t.(type) {
		case xml.StartElement:
			switch e.Name.Local {
			case "gpx":
				root = true
			case "trkseg":
				current = nil
			case "trkpt":
				line, _ := d.InputPos()
				p, err := point(d, e)
				if err != nil {
					return nil, fmt.Errorf("gpx: line %d: %w", line, err)
				}
				current = append(current, p)
			case "wpt", "rte", "extensions", "metadata":
				if err := d.Skip(); err != nil {
					return nil, fmt.Errorf("gpx: %w", err)
				}
			}
			if !root {
				return nil, fmt.Errorf("gpx: this is <%s>, not <gpx>", e.Name.Local)
			}
		case xml.EndElement:
			if e.Name.Local == "trkseg" && len(current) > 0 {
				segments, current = append(segments, current), nil
			}
		}
	}
}

func point(d *xml.Decoder, start xml.StartElement) (Point, error) {
	p := Point{Point: geo.Point{Lat: math.NaN(), Lng: math.NaN()}}
	for _, a := range start.Attr {
		var into *float64
		switch a.Name.Local {
		case "lat":
			into = &p.Lat
		case "lon":
			into = &p.Lng
		default:
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(a.Value), 64)
		if err != nil {
			return p, fmt.Errorf("%s is no number: %q", a.Name.Local, a.Value)
		}
		*into = v
	}
	if !p.Valid() {
		return p, fmt.Errorf("a track point needs lat within ±90 and lon within ±180, not %v, %v", p.Lat, p.Lng)
	}
	for {
		t, err := d.Token()
		if err != nil {
			return p, err
		}
		switch e := t.(type) {
		case xml.StartElement:
			if e.Name.Local != "time" {
				if err := d.Skip(); err != nil {
					return p, err
				}
				continue
			}
			var s string
			if err := d.DecodeElement(&s, &e); err != nil {
				return p, err
			}
			// The schema says xsd:dateTime in UTC; some leave the zone out.
			s = strings.TrimSpace(s)
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				at, err = time.Parse("2006-01-02T15:04:05.999999999", s)
			}
			if err != nil {
				return p, fmt.Errorf("time is not of the form 2006-01-02T15:04:05Z: %q", s)
			}
			p.Time = at.UTC()
		case xml.EndElement:
			return p, nil
		}
	}
}
