package config

const (
	defaultConfigFile = `C:\ProgramData\slipway\daemon.json`
	defaultDataRoot   = `C:\ProgramData\slipway\data`
	defaultExecRoot   = `C:\ProgramData\slipway\run`
	defaultPidFile    = ""
	defaultHost       = "npipe:////./pipe/slipway_engine"
	defaultCertDir    = `C:\ProgramData\slipway`
	defaultShmSize    = 0 // there is no such file system
)
