package clonefs

import "github.com/docker/go-units"

// human writes a number of bytes as in "1.5GiB".
func human(n int64) string { return units.BytesSize(float64(n)) }
