package httpapi

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/maypok86/otter/v2"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// Location is what the operations on positions are made of.
type Location struct {
	Store    *location.Store
	Recorder *location.Recorder // of who read what
	Blocks   *friends.Store
	Live     location.Live // nil: no positions, only who may see them
	// Limit bounds a user's reports. Default: 30 at once, then 2 a second.
	Limit auth.Limit
}

var (
	errCoordinates = errs.New(errs.Invalid, wire.CodeBadCoordinates, "lat is within ±90 and lng within ±180 degrees").At("body.coordinates")
	errNullIsland  = errs.New(errs.Invalid, wire.CodeBadCoordinates,
		"(0, 0) is what a device says that does not know where it is: without a position, or the permission to know it, send no update").At("body.coordinates")
	errFixAhead = errs.New(errs.Invalid, wire.CodeFixInFuture, "set the device's clock: the position is from the future").At("body.timestamp")
	errFixOld   = errs.New(errs.Invalid, wire.CodeFixTooOld, "a position is at most 24 hours old").At("body.timestamp")
	errNoCenter = errs.New(errs.Conflict, "no_position", "it is not known where you are: report a position first, or name a lat and lng")
)

// Precision is how finely a position is told.
type Precision string

// Schema lists the precisions in the document.
func (Precision) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Description: "exact, or the resolution of an H3 cell from r10 (about 75 m) over r8 (500 m) and r6 (3.5 km) to r0: " +
		"then the position is the cell's centre, whatever the device says", Examples: []any{"r8"}}
	for p := grant.Exact; p > grant.None; p-- {
		if text, err := p.MarshalText(); err == nil {
			s.Enum = append(s.Enum, string(text))
		}
	}
	s.PrecomputeMessages()
	return s
}

// parsed is a precision that has passed the schema.
func (p Precision) parsed() grant.Precision {
	out, _ := grant.ParsePrecision(string(p)) // None is refused by the domain
	return out
}

// Whereabouts is where somebody is, as the reader may know it.
type Whereabouts struct {
	Coordinates geo.Point `json:"coordinates" doc:"Degrees, WGS 84; of a coarse position the centre of its cell"`
	Timestamp   time.Time `json:"timestamp" doc:"When they were there"`
	Age         float64   `json:"age" doc:"Seconds since then"`
	Accuracy    *float64  `json:"accuracy,omitempty" doc:"Metres, 68 %; of a coarse position the radius of its cell; absent: not known"`
	Speed       *float64  `json:"speed,omitempty" doc:"Metres per second; never of a coarse position"`
	Heading     *float64  `json:"heading,omitempty" doc:"Degrees from true north; never of a coarse position"`
	Battery     *float64  `json:"battery,omitempty" doc:"0 to 1; never of a coarse position"`
	Precision   Precision `json:"precision"`
	Cell        *geo.Cell `json:"cell,omitempty" doc:"The H3 cell of a coarse position"`
}

func whereaboutsOf(v grant.View, now time.Time) Whereabouts {
	w := Whereabouts{
		Coordinates: v.Point, Timestamp: v.Captured.UTC(), Age: math.Max(0, now.Sub(v.Captured).Round(time.Millisecond).Seconds()),
		Speed: readingOf(v.Speed), Heading: readingOf(v.Heading), Battery: readingOf(v.Battery), Precision: Precision(v.Precision.String()),
	}
	if v.Accuracy > 0 {
		w.Accuracy = decimal(v.Accuracy)
	}
	if v.Cell != 0 {
		w.Cell = &v.Cell
	}
	return w
}

func readingOf(r grant.Reading) *float64 {
	if !r.Known {
		return nil
	}
	return decimal(r.Value)
}

// decimal is what somebody wrote: 0.8 is 0.8, also by way of a float32.
func decimal(v float32) *float64 {
	d := math.Round(float64(v)*1e4) / 1e4
	return &d
}

// GroupLocation is where a member of a group is.
type GroupLocation struct {
	UserID string `json:"user_id"`
	Whereabouts
}

// Proximity is how far away a member of a group is, and where.
type Proximity struct {
	UserID    string    `json:"user_id"`
	Distance  float64   `json:"distance" doc:"Metres, to the position that you may know"`
	Direction float64   `json:"direction" doc:"Degrees from true north"`
	Age       float64   `json:"age" doc:"Seconds since they were there"`
	Precision Precision `json:"precision"`
}

// NearbyPerson is somebody discoverable.
type NearbyPerson struct {
	UserID    string  `json:"user_id"`
	Name      string  `json:"name"`
	Distance  float64 `json:"distance" doc:"Metres, to the position that you may know"`
	Direction float64 `json:"direction" doc:"Degrees from true north"`
	Whereabouts
}

// NearbySubject is a subject of a fleet.
type NearbySubject struct {
	SubjectID string  `json:"subject_id" doc:"As the fleet's gateways name it"`
	Distance  float64 `json:"distance" doc:"Metres, to the position that everybody may know"`
	Direction float64 `json:"direction" doc:"Degrees from true north"`
	Whereabouts
}

// SharingPerson is somebody who granted the signed-in user something.
type SharingPerson struct {
	UserID    string       `json:"user_id"`
	Username  string       `json:"username"`
	Room      string       `json:"room" doc:"To follow in a session"`
	Precision Precision    `json:"precision" doc:"The finest that they granted"`
	Since     time.Time    `json:"since"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty" doc:"Absent: until they end it"`
	Location  *Whereabouts `json:"location,omitempty" doc:"Absent while it is not known"`
}

const tagLocation = "location"

func (a *api) locationOperations() {
	a.grantOperations()
	a.askOperations()
	a.linkOperations()
	a.trackOperations()
	a.fenceOperations()
	a.blockOperations()
	if a.Location.Live == nil {
		return
	}
	a.reportOperations()
	a.nearOperations()
	a.openLinkOperation()
}

func (a *api) reportOperations() {
	reports := newLimit("reports", a.Location.Limit.Or(auth.Limit{Burst: 30, Every: 500 * time.Millisecond}), a.Now)
	order := newSequences()

	type updateInput struct {
		Body struct {
			GroupID     string     `json:"group_id,omitempty" doc:"A group that may know the exact position until it lapses, 15 minutes later, unless you have a grant of your own for it. Absent: only those who hold a grant"`
			Coordinates geo.Point  `json:"coordinates" doc:"Degrees, WGS 84. Without a position (no permission, no fix) send no update: (0, 0) is refused"`
			Accuracy    float64    `json:"accuracy,omitempty" minimum:"0" doc:"Metres, 68 %; absent: not known"`
			Speed       *float64   `json:"speed,omitempty" minimum:"0" doc:"Metres per second"`
			Heading     *float64   `json:"heading,omitempty" minimum:"0" maximum:"360" doc:"Degrees from true north"`
			Battery     *float64   `json:"battery,omitempty" minimum:"0" maximum:"1"`
			Timestamp   *time.Time `json:"timestamp,omitempty" doc:"When the device was there, for positions that were sent later; an older one never replaces a newer one. Absent: now"`
			Seq         uint64     `json:"seq,omitempty" doc:"Counts this login's reports, for clients without a clock: of those without a timestamp one that is not above the last is late"`
		}
	}
	register(a, operation{id: "update-location", method: http.MethodPost, path: "/location/update", tag: tagLocation,
		apart:   "positions are not in the database; of reports of the same timestamp, or seq, the first counts",
		summary: "Report where you are; one report serves all groups, people and links that you share with"},
		func(ctx context.Context, in *updateInput) (*Success, error) {
			who, now := caller(ctx), a.Now()
			if err := reports.take(ctx, who.User.String()); err != nil {
				return nil, err
			}
			var groups []core.GroupID
			if in.Body.GroupID != "" {
				id, err := core.ParseGroupID(in.Body.GroupID)
				if err != nil {
					return nil, errs.New(errs.Invalid, "bad_request", "a group id is a UUID in lower case").At("body.group_id")
				}
				if _, err := a.Groups.Member(ctx, who.User, id, 0); err != nil {
					return nil, err
				}
				groups = append(groups, id)
			}
			captured := now
			if in.Body.Timestamp != nil {
				captured = *in.Body.Timestamp
			}
			switch p := in.Body.Coordinates; {
			case !p.Valid():
				return nil, errCoordinates
			case p == geo.Point{}:
				return nil, errNullIsland
			case captured.After(now.Add(wire.MaxFixAhead)):
				return nil, errFixAhead
			case captured.Before(now.Add(-wire.MaxFixAge)):
				return nil, errFixOld
			}
			raw, err := grant.NewRaw(in.Body.Coordinates, float32(in.Body.Accuracy), asReading(in.Body.Speed), asReading(in.Body.Heading), asReading(in.Body.Battery), captured)
			if err != nil {
				return nil, errs.New(errs.Invalid, wire.CodeBadFix, "%v", err)
			}
			if in.Body.Seq > 0 && !order.newer(who.Login, in.Body.Seq) && in.Body.Timestamp == nil {
				return success(nil) // late, and nobody knows by how much
			}
			err = a.Location.Live.Report(ctx, who.User, who.Name, raw, groups)
			if err != nil {
				order.refused(who.Login, in.Body.Seq)
			}
			return success(err)
		})

	register(a, operation{id: "withdraw-location", method: http.MethodDelete, path: "/location/me", tag: tagLocation, spreads: true,
		summary: "Take your position back, everywhere and at once; it is told again with your next report"},
		func(ctx context.Context, _ *struct{}) (*Success, error) {
			return success(a.Location.Live.Withdraw(ctx, caller(ctx).User))
		})

	type locationsOutput struct {
		Unreached string `header:"Unreached-Regions" doc:"Regions that could not be asked, by commas: members there may be missing. Absent if there are none"`
		Body      struct {
			Locations []GroupLocation `json:"locations" nullable:"false"`
		}
	}
	register(a, operation{id: "group-locations", method: http.MethodGet, path: "/location/group/{group_id}", tag: tagLocation,
		summary: "Where the members of a group are, as far as they share it with the group; positions that lapsed are not in it"},
		func(ctx context.Context, in *groupInput) (*locationsOutput, error) {
			now := a.Now()
			sights, err := a.groupSights(ctx, in.GroupID, "group", now)
			if err != nil {
				return nil, err
			}
			out := &locationsOutput{Unreached: strings.Join(sights.unreached, ",")}
			out.Body.Locations = make([]GroupLocation, len(sights.all))
			for i, s := range sights.all {
				out.Body.Locations[i] = GroupLocation{s.User.String(), whereaboutsOf(s.View, now)}
			}
			return out, nil
		})

	type proximitiesOutput struct {
		Unreached string `header:"Unreached-Regions" doc:"Regions that could not be asked, by commas: members there may be missing. Absent if there are none"`
		Body      struct {
			Proximities []Proximity `json:"proximities" nullable:"false"`
		}
	}
	register(a, operation{id: "group-proximity", method: http.MethodGet, path: "/location/proximity/{group_id}", tag: tagLocation,
		summary: "How far away the members of a group are, and where; without a position of your own there are no distances"},
		func(ctx context.Context, in *groupInput) (*proximitiesOutput, error) {
			now := a.Now()
			sights, err := a.groupSights(ctx, in.GroupID, "proximity", now)
			if err != nil {
				return nil, err
			}
			out := &proximitiesOutput{Unreached: strings.Join(sights.unreached, ",")}
			out.Body.Proximities = []Proximity{}
			if sights.own == nil {
				return out, nil
			}
			me := caller(ctx).User
			for _, d := range location.Distances(*sights.own, sights.all) {
				if d.User != me {
					w := whereaboutsOf(d.View, now)
					out.Body.Proximities = append(out.Body.Proximities, Proximity{d.User.String(), metres(d.Metres), degrees(d.Bearing), w.Age, w.Precision})
				}
			}
			return out, nil
		})
}

// sighted are the positions of a group's members that the caller may know.
type sighted struct {
	all []location.Sight // by user id
	// The caller's own one: the exact one if this node has it, else what the group
	// may know; nil if there is none.
	own       *geo.Point
	unreached []string
}

// groupSights reads where a group's members are. What is read is noted.
func (a *api) groupSights(ctx context.Context, group, how string, now time.Time) (sighted, error) {
	id, _, err := a.standing(ctx, group)
	if err != nil {
		return sighted{}, err
	}
	found, err := a.Location.Live.Room(ctx, id.Room())
	if err != nil {
		return sighted{}, err
	}
	me := caller(ctx).User
	hidden, err := a.Location.Blocks.Hidden(ctx, me)
	if err != nil {
		return sighted{}, err
	}
	out := sighted{all: location.Visible(found.Sights, hidden, now), unreached: found.Unreached}
	slices.SortFunc(out.all, func(x, y location.Sight) int { return slices.Compare(x.User[:], y.User[:]) })
	for _, s := range out.all {
		if s.User == me {
			out.own = &s.View.Point
		}
	}
	if raw, ok := a.Location.Live.Own(me); ok {
		v := grant.Own(raw)
		out.own = &v.Point
	}
	if how == "group" || out.own != nil { // without one's own position one learns nothing of others'
		a.noteReads(me, out.all, how, now)
	}
	return out, nil
}

func (a *api) noteReads(viewer core.UserID, sights []location.Sight, how string, now time.Time) {
	for _, s := range sights {
		a.Location.Recorder.Read(viewer, s.User, how, s.View.Precision, now)
	}
}

// NearbyInput is where somebody looks around.
type NearbyInput struct {
	Radius float64 `query:"radius" default:"5000" minimum:"1" maximum:"50000" doc:"Metres"`
	Limit  int     `query:"limit" default:"20" minimum:"1" maximum:"100"`
	Lat    float64 `query:"lat" minimum:"-90" maximum:"90" doc:"The centre, with lng. Default: where you are"`
	Lng    float64 `query:"lng" minimum:"-180" maximum:"180"`
	Fleet  string  `query:"fleet" doc:"The id of a fleet: instead of people its subjects, if it shows them"`

	located bool
}

// Resolve notes whether there is a centre: 0 is a place like any other.
func (in *NearbyInput) Resolve(ctx huma.Context) (problems []error) {
	in.located, problems = located(ctx)
	return problems
}

func (a *api) nearOperations() {
	type nearbyOutput struct {
		Body struct {
			People    []NearbyPerson  `json:"people" nullable:"false" doc:"The nearest first"`
			Subjects  []NearbySubject `json:"subjects" nullable:"false" doc:"With fleet: the nearest first, and no people"`
			More      bool            `json:"more" doc:"There are others within the radius"`
			Unreached []string        `json:"unreached" nullable:"false" doc:"Regions that could not be asked, or not for all that is theirs: somebody there may be missing"`
		}
	}
	register(a, operation{id: "nearby", refuses: []int{http.StatusConflict}, method: http.MethodGet, path: "/location/nearby", tag: tagLocation,
		summary: "Discoverable people near you, or the subjects of a fleet, the nearest first, at the precision that they chose"},
		func(ctx context.Context, in *NearbyInput) (*nearbyOutput, error) {
			me, now := caller(ctx).User, a.Now()
			var fleet core.FleetID
			if in.Fleet != "" {
				var err error
				if fleet, err = fleetID(in.Fleet, "query.fleet"); err != nil {
					return nil, err
				}
			}
			center := geo.Point{Lat: in.Lat, Lng: in.Lng}
			if !in.located {
				raw, ok := a.Location.Live.Own(me)
				if !ok {
					return nil, errNoCenter
				}
				center = grant.Own(raw).Point
			}
			found, err := a.Location.Live.Near(ctx, me, fleet, center, in.Radius, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &nearbyOutput{}
			out.Body.People, out.Body.Subjects, out.Body.More = []NearbyPerson{}, []NearbySubject{}, found.More
			out.Body.Unreached = append([]string{}, found.Unreached...)
			if in.Fleet != "" { // nobody's position is read
				for _, d := range location.Distances(center, location.Visible(found.Sights, nil, now)) {
					out.Body.Subjects = append(out.Body.Subjects, NearbySubject{d.Subject, metres(d.Metres), degrees(d.Bearing), whereaboutsOf(d.View, now)})
				}
				return out, nil
			}
			hidden, err := a.Location.Blocks.Hidden(ctx, me)
			if err != nil {
				return nil, err
			}
			people := location.Visible(found.Sights, append(hidden, me), now)
			a.noteReads(me, people, "nearby", now)
			for _, d := range location.Distances(center, people) {
				out.Body.People = append(out.Body.People, NearbyPerson{d.User.String(), d.Name, metres(d.Metres), degrees(d.Bearing), whereaboutsOf(d.View, now)})
			}
			return out, nil
		})

	type peopleInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type peopleOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			People []SharingPerson `json:"people" nullable:"false"`
		}
	}
	register(a, operation{id: "sharing-people", method: http.MethodGet, path: "/location/people", tag: tagLocation,
		summary: "Who shares their position with you as a person, and where they are; the latest grant first"},
		func(ctx context.Context, in *peopleInput) (*peopleOutput, error) {
			me := caller(ctx).User
			list, next, err := a.Location.Store.People(ctx, me, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &peopleOutput{Link: nextPage("/location/people", in.Limit, next)}
			out.Body.People = make([]SharingPerson, len(list))
			var asked sync.WaitGroup
			places := make(chan struct{}, 8)
			for i, p := range list {
				one := &out.Body.People[i]
				*one = SharingPerson{UserID: p.User.String(), Username: p.Username, Room: core.DirectRoom(me, p.User),
					Precision: Precision(p.Precision.String()), Since: p.Since, ExpiresAt: timeOrNil(p.Expires)}
				places <- struct{}{}
				asked.Go(func() {
					defer func() { <-places }()
					found, err := a.Location.Live.Room(ctx, one.Room)
					if err != nil {
						return // it is not known
					}
					now := a.Now()
					for _, s := range location.Visible(found.Sights, []core.UserID{me}, now) {
						if s.User == p.User {
							w := whereaboutsOf(s.View, now)
							one.Location = &w
							a.noteReads(me, []location.Sight{s}, "people", now)
						}
					}
				})
			}
			asked.Wait()
			return out, nil
		})
}

func metres(d float64) float64  { return math.Round(d*10) / 10 }
func degrees(d float64) float64 { return math.Mod(math.Round(d*10)/10, 360) }

func asReading(v *float64) grant.Reading {
	if v == nil {
		return grant.Reading{}
	}
	return grant.Read(float32(*v))
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// sequences are the last numbers that logins gave their reports, as far as this
// node took them and remembers.
type sequences struct {
	last *otter.Cache[core.LoginID, uint64]
}

func newSequences() sequences {
	return sequences{otter.Must(&otter.Options[core.LoginID, uint64]{
		MaximumSize: 50_000,
		Executor:    func(f func()) { f() }, // its upkeep runs in the caller
	})}
}

// refused takes a number back whose report was not taken: it comes again.
func (s sequences) refused(l core.LoginID, n uint64) {
	s.last.ComputeIfPresent(l, func(last uint64) (uint64, otter.ComputeOp) {
		if last == n {
			return 0, otter.InvalidateOp
		}
		return last, otter.CancelOp
	})
}

// newer notes a login's number and reports whether it is above the last.
func (s sequences) newer(l core.LoginID, n uint64) (is bool) {
	s.last.Compute(l, func(last uint64, found bool) (uint64, otter.ComputeOp) {
		is = !found || n > last
		if is {
			return n, otter.WriteOp
		}
		return last, otter.CancelOp
	})
	return is
}
