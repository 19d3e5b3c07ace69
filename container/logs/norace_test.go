//go:build !race

package logs_test

// raceDetector tells that the tests, and so the keeper, have the race detector.
const raceDetector = false
