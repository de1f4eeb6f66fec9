//! `pg_filenode.map`: the files of the catalogs that must be found before `pg_class` can be read.

/// `RELMAPPER_FILEMAGIC`
const MAGIC: u32 = 0x0059_2717;

/// A relation map (`RelMapFile`): `magic u32 | count u32 | count * (oid u32, file number u32) | padding | CRC`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelationMap {
    /// Oid and file number, as they are written.
    pub mappings: Vec<(u32, u32)>,
}

impl RelationMap {
    /// Reads a file; none when it is not one. Its CRC is not looked at: who stored it has checked it.
    pub fn decode(file: &[u8]) -> Option<RelationMap> {
        let mut words = file
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word));
        if words.next()? != MAGIC {
            return None;
        }
        let count = words.next()?;
        let mappings = (0..count).map_while(|_| Some((words.next()?, words.next()?)));
        let mappings: Vec<(u32, u32)> = mappings.collect();
        (mappings.len() == count as usize).then_some(RelationMap { mappings })
    }

    /// Returns the number of the file of a catalog.
    pub fn file_of(&self, oid: u32) -> Option<u32> {
        let found = self.mappings.iter().find(|mapping| mapping.0 == oid);
        found.map(|mapping| mapping.1)
    }

    /// Returns the catalog that has a file.
    pub fn oid_of(&self, file: u32) -> Option<u32> {
        let found = self.mappings.iter().find(|mapping| mapping.1 == file);
        found.map(|mapping| mapping.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_found_both_ways() {
        let mut file: Vec<u8> = [MAGIC, 2, 1262, 1262, 1259, 16385, 0, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let map = RelationMap::decode(&file).expect("a map");
        assert_eq!((map.file_of(1259), map.oid_of(16385)), (Some(16385), Some(1259)));
        assert_eq!((map.file_of(1), map.oid_of(1259)), (None, None));
        file[4] = 200;
        assert_eq!(RelationMap::decode(&file), None, "more mappings than bytes");
        file[0] = 0;
        assert_eq!(RelationMap::decode(&file), None);
        assert_eq!(RelationMap::decode(&[]), None);
    }
}
