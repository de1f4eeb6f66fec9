use neon_objects::{Environment, Fork};
use neon_types::{Lsn, ObjectId, Position};

use super::*;

/// A commit at the end of `path` (timeline, start); `salt` makes another commit of the same position.
fn commit(path: &[(u8, u64)], lsn: u64, salt: u8) -> (CommitId, Commit) {
    let path: Vec<Fork> = path
        .iter()
        .map(|(number, start)| Fork {
            timeline: TimelineId([*number; 16]),
            tli: u32::from(*number),
            start: Lsn(*start),
        })
        .collect();
    let commit = Commit {
        position: Position {
            timeline: path.last().expect("a path").timeline,
            lsn: Lsn(lsn),
        },
        prev_record: Lsn(lsn - 8),
        path,
        checkpoint: vec![salt],
        digests: Vec::new(),
        parents: Vec::new(),
        system_id: 1,
        environment: Environment {
            pg_version_num: 170_000,
            architecture: "x86_64".to_owned(),
            char_signed: true,
            libc: String::new(),
            icu: String::new(),
            segment_size: 16 << 20,
            preload: Vec::new(),
            checksums: true,
        },
        settings: String::new(),
        author: String::new(),
        time: 0,
        message: String::new(),
    };
    (CommitId(ObjectId::from_bytes([salt; 32])), commit)
}

const MAIN: &[(u8, u64)] = &[(1, 8)];
const CHILD: &[(u8, u64)] = &[(1, 8), (2, 104)];
const OTHER: &[(u8, u64)] = &[(9, 8)];
const ROOT: TimelineId = TimelineId([1; 16]);

type Sample = (CommitId, Commit);

struct Case {
    incoming: Sample,
    current: Option<Sample>,
    roots: Vec<TimelineId>,
    running: bool,
    force: bool,
    descent: Descent,
    direction: Direction,
}

impl Case {
    fn new(incoming: Sample, current: Option<Sample>) -> Case {
        Case {
            incoming,
            current,
            roots: vec![ROOT],
            running: false,
            force: false,
            descent: Descent::No,
            direction: Direction::Push,
        }
    }

    fn decide(&self) -> Decision {
        decide(&Situation {
            direction: self.direction,
            branch: "main",
            incoming: Side {
                commit: self.incoming.0,
                content: &self.incoming.1,
            },
            current: self.current.as_ref().map(|(commit, content)| Side {
                commit: *commit,
                content,
            }),
            roots_there: &self.roots,
            running: self.running,
            force: self.force,
            descent: self.descent,
        })
    }
}

fn refusal(case: &Case) -> Refusal {
    match case.decide() {
        Decision::Refuse(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn absent_is_created_unless_another_history_is_there() {
    let mut case = Case::new(commit(MAIN, 40, 1), None);
    assert_eq!(case.decide(), Decision::Move(Motion::Create));
    case.roots.clear();
    assert_eq!(
        case.decide(),
        Decision::Move(Motion::Create),
        "an empty repository takes anything"
    );
    case.roots = vec![TimelineId([9; 16])];
    for force in [false, true] {
        case.force = force;
        assert!(matches!(refusal(&case), Refusal::Unrelated { .. }));
    }
}

#[test]
fn behind_goes_forward_across_forks() {
    for incoming in [commit(MAIN, 48, 1), commit(CHILD, 200, 1)] {
        let case = Case::new(incoming, Some(commit(MAIN, 40, 2)));
        assert_eq!(case.decide(), Decision::Move(Motion::Forward));
    }
}

#[test]
fn equal_moves_only_to_a_descendant() {
    let mut case = Case::new(commit(MAIN, 40, 1), Some(commit(MAIN, 40, 1)));
    case.running = true;
    assert_eq!(case.decide(), Decision::Nothing, "the same commit, whatever runs");
    case.current = Some(commit(MAIN, 40, 2));
    assert_eq!(
        case.decide(),
        Decision::Nothing,
        "an unrelated commit at the same position, whatever runs"
    );
    case.force = true;
    assert_eq!(case.decide(), Decision::Nothing, "force does not change that");
    case.running = false;
    for descent in [Descent::Yes, Descent::Unknown] {
        case.descent = descent;
        assert_eq!(case.decide(), Decision::Move(Motion::Recommit));
    }
    // A fork on which nothing happened is the place where it forks.
    let fork = Case {
        descent: Descent::Yes,
        ..Case::new(commit(CHILD, 104, 1), Some(commit(MAIN, 104, 2)))
    };
    assert_eq!(fork.decide(), Decision::Move(Motion::Recommit));
}

#[test]
fn ahead_is_refused_in_a_push_nothing_in_a_pull_and_moved_back_by_force() {
    let mut case = Case::new(commit(MAIN, 40, 1), Some(commit(CHILD, 200, 2)));
    let Refusal::Ahead { head, .. } = refusal(&case) else {
        panic!("not ahead")
    };
    assert_eq!(head.position.lsn, Lsn(200));
    assert!(refusal(&case).hint().contains("pull first"));
    case.running = true;
    assert!(
        matches!(refusal(&case), Refusal::Ahead { .. }),
        "stopping the endpoint would not help"
    );
    case.running = false;
    case.direction = Direction::Pull;
    assert_eq!(case.decide(), Decision::Nothing);
    for direction in [Direction::Push, Direction::Pull] {
        case.direction = direction;
        case.force = true;
        assert_eq!(case.decide(), Decision::Move(Motion::Back));
    }
}

#[test]
fn diverged_is_refused_with_both_heads_and_the_common_ancestor() {
    let mut case = Case::new(commit(MAIN, 120, 1), Some(commit(CHILD, 200, 2)));
    for direction in [Direction::Push, Direction::Pull] {
        case.direction = direction;
        let Refusal::Diverged { divergence, .. } = refusal(&case) else {
            panic!("not diverged")
        };
        assert_eq!(divergence.incoming.position.lsn, Lsn(120));
        assert_eq!(divergence.current.position.lsn, Lsn(200));
        assert_eq!(
            divergence.common,
            Position {
                timeline: ROOT,
                lsn: Lsn(104)
            }
        );
    }
    case.force = true;
    assert_eq!(case.decide(), Decision::Move(Motion::Replace));
}

#[test]
fn a_running_endpoint_holds_its_branch() {
    for (incoming, current, force) in [
        (commit(MAIN, 48, 1), commit(MAIN, 40, 2), false),
        (commit(MAIN, 40, 1), commit(MAIN, 48, 2), true),
        (commit(MAIN, 120, 1), commit(CHILD, 200, 2), true),
    ] {
        let case = Case {
            running: true,
            force,
            ..Case::new(incoming, Some(current))
        };
        assert!(matches!(refusal(&case), Refusal::EndpointRuns { .. }));
    }
    let recommit = Case {
        running: true,
        descent: Descent::Yes,
        ..Case::new(commit(MAIN, 40, 1), Some(commit(MAIN, 40, 2)))
    };
    assert!(matches!(refusal(&recommit), Refusal::EndpointRuns { .. }));
}

#[test]
fn strangers_never_mix_even_where_a_branch_of_theirs_has_the_name() {
    let mut case = Case::new(commit(OTHER, 40, 1), Some(commit(MAIN, 40, 2)));
    case.force = true;
    assert!(matches!(refusal(&case), Refusal::Unrelated { .. }));
    // A repository with several roots may know the root and still have another history on the branch.
    case.roots.push(TimelineId([9; 16]));
    assert!(matches!(refusal(&case), Refusal::Unrelated { .. }));
}
