use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("neon").chain(line.split_whitespace()))
}

#[test]
fn clap_finds_nothing_wrong() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_line_is_understood() {
    for line in [
        "init",
        "init shop --pg-version 17 --locale C.UTF-8 --encoding UTF8",
        "init --from /var/lib/postgresql/17/main",
        "start",
        "start main --port 6000",
        "start main@0/16B3748",
        "uri",
        "uri main",
        "psql",
        "psql main",
        "psql main -- -c select -X",
        "psql -- -l",
        "stop",
        "stop main",
        "stop --all",
        "status",
        "branch",
        "branch try",
        "branch try main~3",
        "branch -d try",
        "branch -D try",
        "branch -m try kept",
        "tag",
        "tag v1.0",
        "tag v1.0 main@0/16B3748",
        "tag -d v1.0",
        "commit -m text",
        "commit -m text main",
        "log",
        "log v1.0 -n 3",
        "show main",
        "switch main",
        "export main --pgdata out",
        "origin add cloud postgresql://ada@h:6543/shop",
        "origin list",
        "origin remove cloud",
        "origin rename cloud sky",
        "origin set-url cloud postgresql://h/x",
        "push",
        "push main cloud:trunk --dry-run --force",
        "pull main cloud --force --as theirs --restart",
        "fetch main cloud",
        "clone postgresql://ada@h:6543/shop",
        "clone postgresql://h/x dir --branch main",
        "serve",
        "serve --listen 127.0.0.1:7000 --root repos",
        "user add ada --root repos --password-stdin",
        "user list",
        "user remove ada",
        "fsck",
        "fsck --boot",
        "fsck --deep",
        "fsck --repair --origin cloud",
        "du",
        "du main --all",
        "layers",
        "layers v1.0 --svg map.svg",
        "config get user.author",
        "config set endpoint.settings.work_mem 64MB",
        "config set user.author",
        "completion bash",
        "daemon",
        "dev oracle wal",
        "dev oracle - --delete --samples kept --per-shape 2 --failures wrong",
        "dev coverage results docs/redo-coverage.md",
        "man man",
        "-C dir --json --color never status",
        "status -C dir --json --color always",
    ] {
        if let Err(error) = parse(line) {
            panic!("neon {line}\n{error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "",
        "frobnicate",
        "init --pg-version 9",
        "init --from x --pg-version 17",
        "start main --port 0",
        "start main --port 70000",
        "stop main --all",
        "branch a b c",
        "branch -m only-one",
        "branch a -d b",
        "branch -d a -D b",
        "tag a -d b",
        "commit",
        "show a b",
        "switch",
        "export main",
        "origin",
        "origin add cloud",
        "clone",
        "serve --listen nowhere",
        "config set",
        "completion ksh93",
        "du --all",
        "layers a b",
        "status --color sometimes",
        "psql main -c select",
    ] {
        match parse(line) {
            Ok(cli) => panic!("neon {line} was taken: {cli:?}"),
            Err(error) => assert_eq!(error.exit_code(), 2, "neon {line}"),
        }
    }
    for line in ["--help", "--version", "branch --help"] {
        assert_eq!(parse(line).expect_err("help").exit_code(), 0, "neon {line}");
    }
}

#[test]
fn arguments_end_up_where_they_belong() {
    let Command::Psql(args) = parse("psql -- -c x").expect("parsed").command else {
        panic!("another command");
    };
    assert_eq!(
        (args.branch, args.args),
        (None, vec!["-c".to_owned(), "x".to_owned()])
    );
    let cli = parse("branch -m old new -C dir --json").expect("parsed");
    assert!(cli.global.json);
    assert_eq!(cli.global.chdir.as_deref(), Some(std::path::Path::new("dir")));
    let Command::Branch(args) = cli.command else {
        panic!("another command");
    };
    assert_eq!(args.rename, Some(vec!["old".to_owned(), "new".to_owned()]));
}

/// clap would merge two arguments of one name without a word, and `init DIR` would be taken for `-C DIR`.
#[test]
fn no_argument_has_the_name_of_a_global_one() {
    fn check(command: &clap::Command, global: &[String]) {
        for inner in command.get_subcommands() {
            for argument in inner.get_arguments() {
                let id = argument.get_id().to_string();
                assert!(!global.contains(&id), "{id} of {}", inner.get_name());
            }
            check(inner, global);
        }
    }
    let command = Cli::command();
    let global: Vec<String> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .map(|argument| argument.get_id().to_string())
        .collect();
    assert_eq!(global, ["chdir", "json", "color"]);
    check(&command, &global);
}

#[test]
fn a_usage_error_can_be_told_as_json() {
    let words = |line: &str| {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        asks_for_json(words.into_iter())
    };
    assert!(words("status --nosuch --json"));
    assert!(!words("status --nosuch"));
    assert!(!words("psql main -- --json"));
    let Failure::Usage(error) = usage_failure(&parse("status --nosuch").expect_err("no such option")) else {
        panic!("another kind");
    };
    assert_eq!(error.code, "usage");
    assert!(error.message.contains("--nosuch"), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("Usage: ")));
}
