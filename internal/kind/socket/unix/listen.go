package unix

// checkWaiting refuses a listener at which clients wait.
func (l *look) checkWaiting() error {
	if l.role != listener || l.u.RQueue == 0 {
		return nil
	}
	return l.refuse("%d connections to %s wait to be accepted, which isn't supported yet; let the server accept them, or end its clients", l.u.RQueue, nameString(l.u.Name))
}
