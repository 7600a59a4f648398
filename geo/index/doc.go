// Package index is an index of moving points in memory: who is within a radius,
// who is nearest, who is in these cells. It is meant for the people and things of
// a region, up to some millions, of which many move each second.
//
// # The tree
//
// Points are kept in buckets, and each bucket is a cell of H3. A cell with more
// than 48 points is divided into its seven children, down to resolution 15; one
// with fewer than 16 left is made one bucket again. So buckets are small where
// people are close together, and large where they are few: a point alone in an
// ocean is found by going down one path, and no empty cell is ever looked at.
//
//	base cells (122)      walked without a lock
//	  └─ … resolution 5
//	      └─ root, resolution 6 ── has the lock of all that follows
//	           └─ … cells that were divided
//	                └─ bucket: unit vectors, one after the other in memory
//
// A point is in a cell if its cell of resolution 15 descends from it, so the
// tree's path is in that cell's digits, and moving a point takes no geometry
// beyond computing that cell. Nor do queries follow neighbours or rings of
// cells, which are where grids go wrong around pentagons and poles: they go down
// from the base cells, and leave out a cell when no point of it can count.
//
// # The bound
//
// A point of the cell c, of resolution r, is at most geo.MaxRadius(r) from c's
// centre; see there why this holds for all descendants, whose hexagons lie partly
// outside of c. So nothing in c is nearer to the query's centre q than
// |q - centre(c)| - MaxRadius(r). All lengths here are chords, straight lines
// through the Earth: they grow with great-circle distances, obey the triangle
// inequality, and cost eight additions and multiplications instead of the
// haversine's trigonometry. Nearest visits children by the distance of their
// centres and leaves out those whose bound is beyond the k-th best so far.
//
// What is nearer is decided by the chord of the unit vectors that belong to the
// coordinates given, exactly as a comparison with each point would. It is off
// from the true distance on the sphere by some nanometres, and by some
// centimetres at the antipode.
//
// # Locks
//
// An id belongs to one of 256 shards, whose lock orders what happens to it, and
// guards where its point is. A point belongs to a root, whose lock guards the
// buckets below it. Writers take the shard's, then one or two roots', by the
// order of their cells; queries take one root's at a time, for reading. Roots
// come and go under the index's own lock, which nobody else needs: links to them
// are atomic.
//
// Who keeps something of each point anyway, found by other means, embeds an Entry
// in that and uses the Tree without an Index around it: the lock of an id is then
// the caller's, and what belongs to a point is read where queries are
// (NearestFunc), under the lock that they hold.
//
// So what a query finds in one root is of one moment, and what it finds in
// several is not: a point that leaves one for another meanwhile may be found in
// both, or in none.
package index
