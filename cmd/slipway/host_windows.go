package main

const (
	defaultHost     = "npipe:////./pipe/slipway_engine"
	defaultDataRoot = `C:\ProgramData\slipway\data`
)

// nothingFound is what from-host says of an empty machine.
const nothingFound = "Nothing was found. PostgreSQL: install it from postgresql.org, or make an image of its folder: slipway image import-dir"
