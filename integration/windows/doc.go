// Package windows tests the engine's Windows build from outside, under Wine: the
// tests run on Linux, start slipwayd.exe in a Wine prefix of their own, and drive
// it with docker.exe over the named pipe and with Linux' docker over TCP. These are
// the tiers C and D of docs/windows.md. What Wine cannot show is not tried here.
//
// Run them by
//
//	make test-wine
package windows
