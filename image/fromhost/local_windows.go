package fromhost

import (
	"os"
	"time"

	"slipway/internal/sqlinstance"
)

// thisWindows looks at this machine.
func thisWindows() *windowsHost {
	return &windowsHost{
		registry: sqlinstance.Local{},
		exists: func(path string) bool {
			_, err := os.Stat(path)
			return err == nil
		},
		list: func(dir string) []string {
			entries, err := os.ReadDir(dir)
			if err != nil {
				return nil
			}
			var names []string
			for _, entry := range entries {
				if entry.IsDir() {
					names = append(names, entry.Name())
				}
			}
			return names
		},
		now: time.Now,
	}
}
