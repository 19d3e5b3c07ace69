// Command slipway-logger is the log keeper: it reads the output of all of a daemon's containers,
// writes their logs and feeds attached clients. slipwayd starts it, once for each exec root; it goes on
// while the daemon is stopped, restarted or replaced. Package slipway/container/logs/keeper has the
// how and why.
package main
