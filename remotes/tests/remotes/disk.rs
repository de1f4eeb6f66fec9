//! What lies on a repository's disk: looked at, damaged, taken away.

use neon_types::{CommitId, ObjectId};

use super::repo::Repo;

impl Repo {
    /// Flips a bit of an object on disk: the largest that is not a commit.
    pub fn damage_largest_object(&self) -> ObjectId {
        use std::os::unix::fs::PermissionsExt;
        let id = self
            .store
            .iter()
            .expect("listed")
            .filter(|id| self.store.read_commit(CommitId(*id)).is_err())
            .max_by_key(|id| self.store.len(*id).expect("a length"))
            .expect("an object");
        let path = self.store.path(id);
        let mut bytes = std::fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("writable");
        std::fs::write(&path, bytes).expect("written");
        id
    }

    pub fn objects(&self) -> usize {
        self.store.iter().expect("listed").count()
    }

    pub fn incoming(&self) -> Vec<(ObjectId, u64)> {
        self.store
            .incoming()
            .expect("listed")
            .into_iter()
            .map(|incoming| (incoming.id, incoming.len))
            .collect()
    }

    /// Zeroes what is staged, as a crash before the fsync may do.
    pub fn spoil_incoming(&self) {
        for (id, len) in self.incoming() {
            let path = self.store.directory().join("incoming").join(id.to_string());
            std::fs::write(path, vec![0; len as usize]).expect("written");
        }
    }

    /// Returns the objects in order.
    pub fn ids(&self) -> Vec<ObjectId> {
        self.store.iter().expect("listed").collect()
    }

    /// Returns what is on the disk under a name.
    pub fn bytes_on_disk(&self, id: ObjectId) -> Option<Vec<u8>> {
        std::fs::read(self.store.path(id)).ok()
    }

    pub fn is_whole(&self, id: ObjectId) -> bool {
        self.store.verify(id).is_ok()
    }

    /// Puts other bytes under a name, or takes the object away.
    pub fn replace_on_disk(&self, id: ObjectId, bytes: Option<&[u8]>) {
        let path = self.store.path(id);
        std::fs::remove_file(&path).expect("removed");
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).expect("written");
        }
    }

    /// Stores an object that nothing names.
    pub fn put(&self, bytes: &[u8]) -> ObjectId {
        self.store.put(bytes).expect("stored")
    }
}
