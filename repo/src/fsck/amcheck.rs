//! What amcheck says of the relations of one database, without running code that the database brought along.
//!
//! The server is thrown away afterwards, so what stands in the way is taken out of it: event triggers are switched off, and amcheck's
//! functions are made anew from the library of the installation, in a schema of our own, because an extension of that name may be something
//! else. Catalogs are read as they are and judged here. An index calls functions where its expressions, its condition or the order of its
//! keys are the database's own; it is compared with them only where that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use neon_postgres::PgVersion;
use neon_transport::TransportError;
use neon_transport::guarded::Guarded;
use neon_types::with_causes;

use crate::error::Result;
use crate::postgres::quoted_name;

/// First oid of what is not the system's own (`FirstNormalObjectId`).
const FIRST_OWN: u32 = 16384;
/// Access methods: heap, btree, gin.
const HEAP: u32 = 2;
const BTREE: u32 = 403;
const GIN: u32 = 2742;
/// The language of functions of the server's program.
const INTERNAL: u32 = 12;
/// Types whose order is that of what they are made of: record, anyarray, anyrange, anymultirange.
const CONTAINERS: [u32; 4] = [2249, 2277, 3831, 4537];
/// Rows that are asked for at once.
const BATCH: usize = 10_000;

/// A relation to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    query: String,
}

/// What there is to check in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checks {
    /// Relations, in order.
    pub all: Vec<Check>,
    /// Indexes that are not compared with their tables because that would call functions of the database.
    pub in_part: u64,
    /// Indexes that are not looked at because their order is the database's own.
    pub left: u64,
}

/// A session in which amcheck's functions are at hand.
pub(super) struct Amcheck<'a> {
    session: &'a mut Guarded,
    version: PgVersion,
    schema: String,
}

impl<'a> Amcheck<'a> {
    /// Makes the functions. Fails with what the server says where the installation has no amcheck.
    pub(super) async fn make(
        session: &'a mut Guarded,
        version: PgVersion,
        schema: &str,
    ) -> std::result::Result<Amcheck<'a>, TransportError> {
        if version < PgVersion::V17 {
            // Later versions have a setting for it.
            for row in rows(session, "SELECT evtname FROM pg_catalog.pg_event_trigger").await? {
                if let [Some(name)] = row.as_slice() {
                    let off = format!("ALTER EVENT TRIGGER {} DISABLE", quoted_name(name));
                    session.run(&off).await?;
                }
            }
        }
        let schema = quoted_name(schema);
        let mut made = format!(
            "CREATE SCHEMA {schema};
             CREATE FUNCTION {schema}.btree(pg_catalog.regclass, pg_catalog.bool) RETURNS pg_catalog.void
               AS '$libdir/amcheck', 'bt_index_check' LANGUAGE c STRICT;
             CREATE FUNCTION {schema}.heap(relation pg_catalog.regclass, on_error_stop pg_catalog.bool, check_toast pg_catalog.bool,
               skip pg_catalog.text, startblock pg_catalog.int8, endblock pg_catalog.int8, OUT blkno pg_catalog.int8,
               OUT offnum pg_catalog.int4, OUT attnum pg_catalog.int4, OUT msg pg_catalog.text) RETURNS SETOF pg_catalog.record
               AS '$libdir/amcheck', 'verify_heapam' LANGUAGE c"
        );
        if version >= PgVersion::V18 {
            made.push_str(&format!(
                "; CREATE FUNCTION {schema}.gin(pg_catalog.regclass) RETURNS pg_catalog.void AS '$libdir/amcheck', 'gin_index_check' LANGUAGE c STRICT"
            ));
        }
        session.run(&made).await?;
        Ok(Amcheck {
            session,
            version,
            schema,
        })
    }

    /// Returns what there is to check; with `functions`, calling functions of the database where it takes that.
    pub(super) async fn checks(&mut self, functions: bool) -> Result<Checks> {
        let indexes = self.indexes().await?;
        let schemas = rows(self.session, "SELECT oid, nspname FROM pg_catalog.pg_namespace").await?;
        let schemas: BTreeMap<String, String> = schemas.into_iter().filter_map(pair).collect();
        let relations = rows(
            self.session,
            "SELECT oid, relname, relnamespace, relam, relkind, relpersistence FROM pg_catalog.pg_class",
        )
        .await?;
        let mut checks = Checks::default();
        for row in relations {
            let [
                Some(oid),
                Some(name),
                Some(namespace),
                Some(method),
                Some(kind),
                Some(persistence),
            ] = row.as_slice()
            else {
                continue;
            };
            let (Ok(oid), Ok(method)) = (oid.parse::<u32>(), method.parse::<u32>()) else {
                continue;
            };
            // Unlogged relations are empty here.
            if persistence != "p" || !matches!(kind.as_str(), "r" | "t" | "m" | "i") {
                continue;
            }
            let index = indexes.get(&oid);
            if let Some(query) = self.query(oid, method, index, functions, &mut checks) {
                checks.all.push(Check {
                    schema: schemas.get(namespace).cloned().unwrap_or_default(),
                    name: name.clone(),
                    query,
                });
            }
        }
        checks
            .all
            .sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(checks)
    }

    fn query(
        &self,
        oid: u32,
        method: u32,
        index: Option<&Index>,
        functions: bool,
        checks: &mut Checks,
    ) -> Option<String> {
        let schema = &self.schema;
        if method == HEAP {
            return Some(format!(
                "SELECT blkno, offnum, msg FROM {schema}.heap('{oid}', false, true, 'none', NULL, NULL)"
            ));
        }
        let calls = match (method, index?) {
            (_, index) if !index.usable => return None,
            (BTREE, index) => index.calls,
            (GIN, index) if self.version >= PgVersion::V18 => index.calls,
            _ => return None,
        };
        let compared = match calls {
            Calls::Nothing => true,
            _ if functions => true,
            Calls::InExpressions => false,
            Calls::InOrder => {
                checks.left += 1;
                return None;
            }
        };
        if method == GIN {
            return Some(format!("SELECT {schema}.gin('{oid}')"));
        }
        checks.in_part += u64::from(!compared);
        Some(format!("SELECT {schema}.btree('{oid}', {compared})"))
    }

    /// Runs a check; returns what is wrong. With `functions`, those of the database are found as their makers did, in the relation's schema.
    pub(super) async fn run(&mut self, check: &Check, functions: bool) -> Result<Vec<String>> {
        if functions {
            let path = format!("SET search_path = {}, public", quoted_name(&check.schema));
            self.session.run(&path).await?;
        }
        match self.session.run(&check.query).await {
            Ok(found) => Ok(found.rows.iter().filter_map(|row| problem(row)).collect()),
            Err(TransportError::Refused(refusal)) => Ok(vec![refusal.message]),
            Err(error) => Err(error.into()),
        }
    }

    async fn indexes(&mut self) -> Result<BTreeMap<u32, Index>> {
        let own_order = rows(self.session, "SELECT oid, opcintype FROM pg_catalog.pg_opclass").await?;
        let languages = rows(self.session, "SELECT oid, prolang FROM pg_catalog.pg_proc").await?;
        let judge = Judge {
            own_order: numbers(own_order)
                .filter(|(class, input)| *class >= FIRST_OWN || CONTAINERS.contains(input))
                .map(|(class, _)| class)
                .collect(),
            not_internal: numbers(languages)
                .filter(|(_, language)| *language != INTERNAL)
                .map(|(function, _)| function)
                .collect(),
        };
        let indexes = rows(
            self.session,
            "SELECT indexrelid, indisvalid, indisready, indclass, indexprs, indpred FROM pg_catalog.pg_index",
        )
        .await?;
        Ok(indexes.iter().filter_map(|row| judge.index(row)).collect())
    }
}

/// What an index would call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    /// Nothing but functions of the server's program.
    Nothing,
    /// More in its expressions or its condition.
    InExpressions,
    /// More to order its keys.
    InOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index {
    usable: bool,
    calls: Calls,
}

/// Which functions and orders are the database's own.
struct Judge {
    own_order: BTreeSet<u32>,
    not_internal: BTreeSet<u32>,
}

impl Judge {
    fn index(&self, row: &[Option<String>]) -> Option<(u32, Index)> {
        let [
            Some(oid),
            Some(valid),
            Some(ready),
            Some(classes),
            expressions,
            predicate,
        ] = row
        else {
            return None;
        };
        let own_order = classes
            .split(' ')
            .any(|class| class.parse().is_ok_and(|class| self.own_order.contains(&class)));
        let trees = [expressions, predicate];
        let calls = if own_order {
            Calls::InOrder
        } else if trees
            .into_iter()
            .flatten()
            .all(|tree| self.is_of_the_system(tree))
        {
            Calls::Nothing
        } else {
            Calls::InExpressions
        };
        let usable = valid == "t" && ready == "t";
        Some((oid.parse().ok()?, Index { usable, calls }))
    }

    /// Returns true for an expression, as the catalog writes its tree, that names nothing but functions, operators and types of the system.
    fn is_of_the_system(&self, tree: &str) -> bool {
        let mut words = tree
            .split([' ', '{', '}', '(', ')'])
            .filter(|word| !word.is_empty());
        let mut field = "";
        words.all(|word| {
            let number: Option<u32> = word.parse().ok();
            let place = field == ":location" || field.ends_with("typmod");
            let fine = match number {
                Some(number) if !place => {
                    number < FIRST_OWN && !(field.ends_with("funcid") && self.not_internal.contains(&number))
                }
                _ => true,
            };
            field = word;
            fine
        })
    }
}

/// Returns all rows of a query, a batch at a time.
async fn rows(
    session: &mut Guarded,
    query: &str,
) -> std::result::Result<Vec<Vec<Option<String>>>, TransportError> {
    session
        .run(&format!("BEGIN; DECLARE neon_rows NO SCROLL CURSOR FOR {query}"))
        .await?;
    let mut all = Vec::new();
    loop {
        let batch = session.run(&format!("FETCH {BATCH} FROM neon_rows")).await?.rows;
        let last = batch.len() < BATCH;
        all.extend(batch);
        if last {
            break;
        }
    }
    session.run("COMMIT").await?;
    Ok(all)
}

fn pair(row: Vec<Option<String>>) -> Option<(String, String)> {
    let mut columns = row.into_iter();
    Some((columns.next()??, columns.next()??))
}

fn numbers(rows: Vec<Vec<Option<String>>>) -> impl Iterator<Item = (u32, u32)> {
    rows.into_iter().filter_map(|row| {
        let (a, b) = pair(row)?;
        Some((a.parse().ok()?, b.parse().ok()?))
    })
}

/// Returns what a row of a check says; nothing when its relation is well.
fn problem(row: &[Option<String>]) -> Option<String> {
    match row {
        [block, item, Some(message)] => Some(format!(
            "block {}, item {}: {message}",
            block.as_deref().unwrap_or("?"),
            item.as_deref().unwrap_or("?")
        )),
        _ => None,
    }
}

/// Returns the names of the databases that one can connect to.
pub(super) async fn databases(session: &mut Guarded) -> Result<Vec<String>> {
    let all = rows(
        session,
        "SELECT datname, datallowconn FROM pg_catalog.pg_database",
    )
    .await?;
    let mut names: Vec<String> = all
        .into_iter()
        .filter_map(pair)
        .filter(|(_, open)| open == "t")
        .map(|(name, _)| name)
        .collect();
    names.sort();
    Ok(names)
}

/// Returns what the server said.
pub(super) fn message(error: &TransportError) -> String {
    match error {
        TransportError::Refused(refusal) => refusal.message.clone(),
        other => with_causes(other),
    }
}

/// Returns what is to be told of indexes that were not checked in full.
pub(super) fn remark(database: &str, checks: &Checks) -> Option<String> {
    let (in_part, left) = (checks.in_part, checks.left);
    (in_part + left > 0).then(|| {
        format!(
            "{database}: {in_part} indexes were not compared with their tables and {left} not looked at, because that calls functions of the \
             database; 'neon fsck --boot --functions' does"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUDGE: fn() -> Judge = || Judge {
        own_order: BTreeSet::from([16500, 397]),
        not_internal: BTreeSet::from([879, 16400]),
    };

    #[test]
    fn expressions_of_the_system_are_told_from_others() {
        let lower = "({FUNCEXPR :funcid 870 :funcresulttype 25 :args ({VAR :varno 1 :vartype 25 :vartypmod -1 :location 33}) :location 70000})";
        assert!(JUDGE().is_of_the_system(lower));
        assert!(
            JUDGE().is_of_the_system("({NULLTEST :arg {VAR :vartype 1043 :vartypmod 20004} :location -1})")
        );
        for tree in [
            lower.replace("870", "16400"),
            // lpad(text, int) is a function of the system, and written in SQL: what is in the catalog is what runs.
            lower.replace("870", "879"),
            lower.replace("vartype 25", "vartype 16390"),
            "{OPEXPR :opno 16420 :opfuncid 65 :args <>}".to_owned(),
        ] {
            assert!(!JUDGE().is_of_the_system(&tree), "{tree}");
        }
    }

    #[test]
    fn an_index_is_judged_by_order_expressions_and_condition() {
        let index = |classes: &str, expressions: Option<&str>, predicate: Option<&str>| {
            let text = |text: &str| Some(text.to_owned());
            let row = [
                text("20000"),
                text("t"),
                text("t"),
                text(classes),
                expressions.and_then(text),
                predicate.and_then(text),
            ];
            JUDGE().index(&row).map(|(oid, index)| (oid, index.calls))
        };
        let own = Some("{FUNCEXPR :funcid 16400}");
        assert_eq!(index("1978 3126", None, None), Some((20000, Calls::Nothing)));
        assert_eq!(index("1978", own, None), Some((20000, Calls::InExpressions)));
        assert_eq!(index("1978", None, own), Some((20000, Calls::InExpressions)));
        assert_eq!(index("1978 16500", own, None), Some((20000, Calls::InOrder)));
        assert_eq!(
            index("397", None, None),
            Some((20000, Calls::InOrder)),
            "an array's order is that of its elements"
        );
    }
}
