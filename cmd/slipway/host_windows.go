package main

const (
	defaultHost     = "npipe:////./pipe/slipway"
	defaultDataRoot = "C:\\ProgramData\\Slipway"
)
