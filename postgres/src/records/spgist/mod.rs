//! Main data of records of resource manager `SPGist`. Everything is in there, unaligned tuples too: block references have no
//! data.
//!
//! The layouts are the same in 14 to 18 but for what VACUUM_REDIRECT appends from 16 on. Padding is what memory held: it is skipped.

mod decode;
#[cfg(test)]
mod tests;

/// A record of resource manager `SPGist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpgistRecord<'a> {
    /// A tuple was added to leaf page 0; 1 is the page of its parent.
    AddLeaf(AddLeaf<'a>),
    /// A chain of leaf tuples went from page 0 to page 1, with one more; 2 is the page of their parent.
    MoveLeafs(MoveLeafs<'a>),
    /// An inner tuple of page 0 got one more node, there or on page 1, if that is referred to; 2 is the page of its parent if
    /// that is neither.
    AddNode(AddNode<'a>),
    /// An inner tuple of page 0 was split in two: the rest of its prefix and its nodes went below, maybe to page 1.
    SplitTuple(SplitTuple<'a>),
    /// A chain of leaf tuples got an inner tuple: 0 leaf page before (but for a root), 1 another leaf page if need be, 2 page
    /// of the inner tuple, 3 page of its parent if that is another one.
    PickSplit(PickSplit<'a>),
    /// Tuples of leaf page 0 went.
    VacuumLeaf(VacuumLeaf),
    /// Tuples of page 0, a root that is a leaf, went.
    VacuumRoot {
        /// Their offset numbers, ascending.
        deleted: Vec<u16>,
    },
    /// Redirects of page 0 that no scan can need any more became placeholders, and the last placeholders went.
    VacuumRedirect {
        /// Offset numbers of the redirects.
        redirects: Vec<u16>,
        /// This tuple and all behind it go; 0 for none.
        first_placeholder: u16,
    },
}

/// Where the downlink is that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentLink {
    /// Offset number of the inner tuple; 0 for none.
    pub offset: u16,
    /// Which of its nodes, from 0.
    pub node: u16,
}

/// `spgxlogState`: what tuples that went become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The transaction that redirects name.
    pub redirect_xid: u32,
    /// The index is being built: nobody needs redirects.
    pub is_build: bool,
}

/// `spgxlogAddLeaf`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddLeaf<'a> {
    /// The page is begun anew.
    pub new_page: bool,
    /// It belongs to the tree of nulls.
    pub nulls: bool,
    /// Offset number of the tuple.
    pub leaf: u16,
    /// First tuple of its chain, 0 for none; the same as `leaf` when that replaces a dead tuple.
    pub head: u16,
    /// The downlink, if it changes.
    pub parent: ParentLink,
    /// The tuple.
    pub tuple: &'a [u8],
}

/// `spgxlogMoveLeafs`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveLeafs<'a> {
    /// Page 1 is begun anew.
    pub new_page: bool,
    /// It belongs to the tree of nulls.
    pub nulls: bool,
    /// The downlink, which leads to the last of the tuples.
    pub parent: ParentLink,
    /// What the old tuples become.
    pub state: State,
    /// Offset numbers of the old tuples, the head of the chain first.
    pub deleted: Vec<u16>,
    /// The tuples and their new offset numbers, at least one.
    pub inserted: Vec<(u16, &'a [u8])>,
}

/// `spgxlogAddNode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddNode<'a> {
    /// Offset number of the tuple as it was.
    pub offset: u16,
    /// Its offset number on page 1.
    pub new_offset: u16,
    /// Page 1 is begun anew.
    pub new_page: bool,
    /// Id of the reference to the page of the parent.
    pub parent_id: Option<u8>,
    /// The downlink.
    pub parent: ParentLink,
    /// What the old tuple becomes.
    pub state: State,
    /// The tuple with its new node.
    pub tuple: &'a [u8],
}

/// `spgxlogSplitTuple`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitTuple<'a> {
    /// Offset number of the upper tuple, in place of the old one.
    pub prefix_offset: u16,
    /// Offset number of the lower tuple.
    pub postfix_offset: u16,
    /// Page 1 is begun anew.
    pub new_page: bool,
    /// The lower tuple is on page 0 too.
    pub same_page: bool,
    /// The upper tuple.
    pub prefix: &'a [u8],
    /// The lower tuple.
    pub postfix: &'a [u8],
}

/// `spgxlogPickSplit`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickSplit<'a> {
    /// Page 0 is begun anew.
    pub init_source: bool,
    /// Page 1 is begun anew.
    pub init_destination: bool,
    /// Page 2 is begun anew.
    pub init_inner: bool,
    /// The pages belong to the tree of nulls.
    pub nulls: bool,
    /// The parent is on page 2 too.
    pub inner_is_parent: bool,
    /// The downlink.
    pub parent: ParentLink,
    /// What the old tuples become.
    pub state: State,
    /// Offset numbers of the old tuples, the head of the chain first.
    pub deleted: Vec<u16>,
    /// Offset number of the inner tuple.
    pub inner_offset: u16,
    /// The inner tuple.
    pub inner: &'a [u8],
    /// The new leaf tuples.
    pub inserted: Vec<PlacedLeaf<'a>>,
}

/// A leaf tuple of PICKSPLIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedLeaf<'a> {
    /// It goes to page 1, not to page 0.
    pub on_destination: bool,
    /// Its offset number.
    pub offset: u16,
    /// The tuple.
    pub tuple: &'a [u8],
}

/// `spgxlogVacuumLeaf`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VacuumLeaf {
    /// What the tuples become.
    pub state: State,
    /// Offset numbers of tuples that die but keep their place, as the parent leads there.
    pub dead: Vec<u16>,
    /// Of tuples that become placeholders.
    pub placeholders: Vec<u16>,
    /// Of tuples that change places, first with second; then the first becomes a placeholder.
    pub moved: Vec<(u16, u16)>,
    /// Of tuples whose next in the chain is another one.
    pub chained: Vec<(u16, u16)>,
}
