package config

const (
	defaultConfigFile = `C:\ProgramData\slipway\daemon.json`
	defaultDataRoot   = `C:\ProgramData\slipway`
	defaultExecRoot   = `C:\ProgramData\slipway\run`
	defaultPidFile    = ""
	defaultHost       = "npipe:////./pipe/slipway"
	defaultCertDir    = `C:\ProgramData\slipway`
)
