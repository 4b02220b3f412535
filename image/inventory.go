package image

import (
	"errors"
	"fmt"

	"glis.dev/glis/image/criu/inventory"
)

// ReadInventory reads the inventory of a checkpoint and refuses one whose
// version of the format is unknown.
func ReadInventory(s Store) (*inventory.InventoryEntry, error) {
	inv, err := ReadOne[*inventory.InventoryEntry](s, Inventory)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(inv); err != nil {
		return nil, fileError(Inventory.FileName(), err)
	}
	return inv, nil
}

func checkVersion(inv *inventory.InventoryEntry) error {
	switch v := inv.GetImgVersion(); {
	case v > Version11:
		return fmt.Errorf("%w: version %d is too new, at most %d is understood; use the tool that wrote it", ErrVersion, v, Version11)
	case v < Version1:
		return fmt.Errorf("%w: version %d", ErrVersion, v)
	case !inv.GetFdinfoPerId():
		return fmt.Errorf("%w: too old, descriptors are not listed by table", ErrVersion)
	case inv.RootCgSet != nil && inv.GetRootCgSet() == 0:
		return errors.New("root_cg_set is 0, sets are counted from 1")
	}
	return nil
}
