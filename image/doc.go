// Package image reads and writes the image files of CRIU: the files a
// checkpoint of a process tree consists of.
//
// A checkpoint is a set of named files in a [Store], usually a directory
// ([Dir]). Every sort of file has one row in [Table]: its name, its magic
// numbers, the protobuf message its entries are, and whether raw bytes follow
// an entry. Except for the raw sorts (pages, tarballs, netlink dumps) a file is
//
//	u32 common magic   (absent in inventory.img and in images of version 1)
//	u32 own magic
//	{ u32 size; message[size]; payload }...
//
// with all numbers little endian. Messages are in image/criu, generated from
// the schemas in github.com/checkpoint-restore/go-criu/v8/crit/images and with
// the names they have there.
//
//	w, err := image.Create(store, image.Core, 17)
//	err = w.Put(core)
//	err = w.Close()
//
//	core, err := image.ReadOne[*criu_core.CoreEntry](store, image.Core, 17)
//
// Images are not trusted: every size, count and offset is checked against the
// file before it is used, and nothing is allocated because a number in a file
// asks for it. Errors about the content of a file are of type [*Error].
package image
