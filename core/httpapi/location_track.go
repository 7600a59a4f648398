package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// Track is how the signed-in user's private track stands.
type Track struct {
	Enabled       bool       `json:"enabled" doc:"Off until you switch it on"`
	RetentionDays int        `json:"retention_days" doc:"Points are deleted after so many days"`
	Points        int        `json:"points"`
	First         *time.Time `json:"first,omitempty"`
	Last          *time.Time `json:"last,omitempty"`
}

func trackOf(t location.Track) Track {
	return Track{t.On, t.Days, t.Points, timeOrNil(t.First), timeOrNil(t.Last)}
}

// TrackPoint is where the signed-in user was.
type TrackPoint struct {
	Whereabouts
}

// TrackRange is a part of a track.
type TrackRange struct {
	From  time.Time `query:"from" doc:"Captured at this time or later"`
	Until time.Time `query:"until" doc:"Captured before this time"`
}

// exportPage is how many points are read and unsealed at a time.
const exportPage = 2000

func (a *api) trackOperations() {
	store := a.Location.Store

	type trackOutput struct{ Body Track }
	track := func(ctx context.Context) (*trackOutput, error) {
		t, err := store.Track(ctx, caller(ctx).User)
		if err != nil {
			return nil, err
		}
		return &trackOutput{trackOf(t)}, nil
	}
	register(a, operation{id: "get-track", method: http.MethodGet, path: "/location/track", tag: tagLocation,
		summary: "How your private track stands: where you were, for you alone"},
		func(ctx context.Context, _ *struct{}) (*trackOutput, error) { return track(ctx) })

	type putTrackInput struct {
		Body struct {
			Enabled       bool `json:"enabled" doc:"Off: no new points; those that are there stay until they are too old, or you delete them"`
			RetentionDays int  `json:"retention_days,omitempty" doc:"1 to 3,650; absent: as before, at first 30. A track has one point a second at most, and 1,000,000 in all: then the oldest go"`
		}
	}
	register(a, operation{id: "put-track", method: http.MethodPut, path: "/location/track", tag: tagLocation, spreads: true, summary: "Switch your private track on or off"},
		func(ctx context.Context, in *putTrackInput) (*trackOutput, error) {
			if err := store.SetTrack(ctx, caller(ctx).User, in.Body.Enabled, in.Body.RetentionDays); err != nil {
				return nil, err
			}
			return track(ctx)
		})

	type deleteTrackOutput struct {
		Body struct {
			Success bool  `json:"success"`
			Deleted int64 `json:"deleted" doc:"Points"`
		}
	}
	register(a, operation{id: "delete-track", method: http.MethodDelete, path: "/location/track", tag: tagLocation, summary: "Delete points of your track: those in a range, or all"},
		func(ctx context.Context, in *TrackRange) (*deleteTrackOutput, error) {
			n, err := store.ClearTrack(ctx, caller(ctx).User, in.From, in.Until)
			if err != nil {
				return nil, err
			}
			out := &deleteTrackOutput{}
			out.Body.Success, out.Body.Deleted = true, n
			return out, nil
		})

	type trackPointsInput struct {
		TrackRange
		Limit  int    `query:"limit" default:"500" minimum:"1" maximum:"2000"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type trackPointsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Points []TrackPoint `json:"points" nullable:"false"`
		}
	}
	register(a, operation{id: "list-track", method: http.MethodGet, path: "/location/track/points", tag: tagLocation, summary: "The points of your track, the oldest first"},
		func(ctx context.Context, in *trackPointsInput) (*trackPointsOutput, error) {
			after, err := core.ParseCursor(in.Cursor, false)
			if err != nil {
				return nil, err
			}
			if in.Cursor == "" {
				after.At = from(in.From)
			}
			list, err := store.TrackPoints(ctx, caller(ctx).User, after.At, in.Until, in.Limit+1)
			if err != nil {
				return nil, err
			}
			list, next := core.Page(list, in.Limit, func(v grant.View) core.Position { return core.Position{At: v.Captured} })
			out := &trackPointsOutput{}
			if next != "" {
				q := url.Values{"limit": {strconv.Itoa(in.Limit)}, "cursor": {next}}
				if !in.Until.IsZero() {
					q.Set("until", in.Until.Format(time.RFC3339Nano))
				}
				out.Link = "<" + prefix + "/location/track/points?" + q.Encode() + `>; rel="next"`
			}
			now := a.Now()
			out.Body.Points = make([]TrackPoint, len(list))
			for i, v := range list {
				out.Body.Points[i] = TrackPoint{whereaboutsOf(v, now)}
			}
			return out, nil
		})

	type exportTrackInput struct {
		TrackRange
		Format string `query:"format" enum:"gpx,geojson" default:"gpx" doc:"GPX 1.1, or GeoJSON (RFC 7946) with one point per feature"`
	}
	register(a, operation{id: "export-track", media: "application/gpx+xml application/geo+json", method: http.MethodGet, path: "/location/track/export", tag: tagLocation,
		summary: "Your track as a file; of a long one ask for ranges"},
		func(ctx context.Context, in *exportTrackInput) (*huma.StreamResponse, error) {
			user := caller(ctx).User
			next := from(in.From)
			page := func(ctx context.Context) ([]grant.View, error) {
				list, err := store.TrackPoints(ctx, user, next, in.Until, exportPage)
				if len(list) > 0 {
					next = list[len(list)-1].Captured
				}
				return list, err
			}
			first, err := page(ctx) // what fails at once is a problem, not half a file
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				write, contentType := writeGPX, "application/gpx+xml"
				if in.Format == "geojson" {
					write, contentType = writeGeoJSON, "application/geo+json"
				}
				hc.SetHeader("Content-Type", contentType)
				hc.SetHeader("Content-Disposition", `attachment; filename="track.`+in.Format+`"`)
				w := bufio.NewWriter(hc.BodyWriter())
				err := write(w, func(yield func(grant.View) error) error {
					for list := first; len(list) > 0; {
						for _, v := range list {
							if err := yield(v); err != nil {
								return err
							}
						}
						if len(list) < exportPage {
							return nil
						}
						var err error
						if list, err = page(hc.Context()); err != nil {
							return err
						}
					}
					return nil
				})
				if err == nil {
					err = w.Flush()
				}
				if err != nil && hc.Context().Err() == nil {
					a.Log.WarnContext(hc.Context(), "track export ended early", "err", err)
				}
				if err != nil {
					panic(http.ErrAbortHandler) // so that nobody takes half a file for all of it
				}
			}}, nil
		})
}

// from makes a time that is itself part of the range the end of what is not.
func from(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-time.Microsecond)
}

var errNotExported = errs.New(errs.Internal, "internal", "the track could not be written")

// writeGPX writes GPX 1.1 (https://www.topografix.com/GPX/1/1/). Speed and course
// are in Garmin's TrackPointExtension v2, since 1.1 has no elements for them.
func writeGPX(w io.Writer, each func(func(grant.View) error) error) error {
	_, err := io.WriteString(w, xml.Header+`<gpx version="1.1" creator="Muster" xmlns="http://www.topografix.com/GPX/1/1" `+
		`xmlns:tpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2">`+"\n<trk><trkseg>\n")
	if err != nil {
		return fmt.Errorf("%w: %w", errNotExported, err)
	}
	if err := each(func(v grant.View) error {
		extension := ""
		if v.Speed.Known {
			extension += "<tpx:speed>" + number(float64(v.Speed.Value), 2) + "</tpx:speed>"
		}
		if v.Heading.Known {
			extension += "<tpx:course>" + number(float64(v.Heading.Value), 1) + "</tpx:course>"
		}
		if extension != "" {
			extension = "<extensions><tpx:TrackPointExtension>" + extension + "</tpx:TrackPointExtension></extensions>"
		}
		_, err := fmt.Fprintf(w, "<trkpt lat=%q lon=%q><time>%s</time>%s</trkpt>\n",
			number(v.Point.Lat, 7), number(v.Point.Lng, 7), v.Captured.UTC().Format(time.RFC3339Nano), extension)
		return err
	}); err != nil {
		return err
	}
	_, err = io.WriteString(w, "</trkseg></trk>\n</gpx>\n")
	return err
}

func number(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

// writeGeoJSON writes a FeatureCollection (RFC 7946): longitude comes first.
func writeGeoJSON(w io.Writer, each func(func(grant.View) error) error) error {
	if _, err := io.WriteString(w, `{"type":"FeatureCollection","features":[`); err != nil {
		return fmt.Errorf("%w: %w", errNotExported, err)
	}
	separator := "\n"
	if err := each(func(v grant.View) error {
		properties := map[string]any{"time": v.Captured.UTC()}
		if v.Accuracy > 0 {
			properties["accuracy"] = decimal(v.Accuracy)
		}
		for name, r := range map[string]grant.Reading{"speed": v.Speed, "heading": v.Heading, "battery": v.Battery} {
			if r.Known {
				properties[name] = decimal(r.Value)
			}
		}
		b, err := json.Marshal(map[string]any{
			"type": "Feature", "properties": properties,
			"geometry": map[string]any{"type": "Point", "coordinates": []float64{v.Point.Lng, v.Point.Lat}},
		})
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, separator+string(b))
		separator = ",\n"
		return err
	}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n]}\n")
	return err
}
