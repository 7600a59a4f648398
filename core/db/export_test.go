package db

// AsCockroach makes d use the way of CockroachDB. On PostgreSQL that works as
// long as nobody else writes, which is enough to test what isn't cockroach-go's.
func (d *DB) AsCockroach() *DB {
	d.cockroach = true
	return d
}

// Statements are those of the overlay.
func Statements(r Regions, database string) ([]string, error) { return r.statements(database) }
