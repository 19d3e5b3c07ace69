package main

const (
	defaultHost     = "npipe:////./pipe/slipway_engine"
	defaultDataRoot = `C:\ProgramData\slipway\data`
)
