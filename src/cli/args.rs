//! What may be typed. The comments are the manual: `--help` shows them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

pub(super) use self::gate::{GateArgs, GateCommand, GateHistoryArgs, GateSetArgs};
use crate::config::{Flags, text};
use crate::http::auth::Role;

mod gate;

const MANUAL: &str = "\
Examples:
  hotseat serve --demo                 sell three invented concerts on this machine, now
  hotseat serve --config cluster.toml  sell what was imported
  hotseat import hall.json --concert \"Winter Journey\" --at 2027-05-01T19:00:00+09:00
  hotseat token --user 7 --role USER   a token for the API
  hotseat audit                        prove that nothing was sold twice
  hotseat draw verify draw.json        prove that a presale's draw was fair

Settings:
  Defaults, then the file of --config, then HOTSEAT_<SECTION>_<KEY>, then flags: the later wins.
  `cluster.toml` lists every key, e.g. hold.ttl, which is also HOTSEAT_HOLD_TTL=2m.

Exit codes:
  0  done
  1  it was tried and failed, or an audit found a difference
  2  the command line or the configuration is wrong; nothing was tried";

/// Sells the seats of a concert when everybody wants them in the same second.
#[derive(Debug, Parser)]
#[command(name = "hotseat", version, after_help = MANUAL, max_term_width = 110)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    ///
    /// Serves the public API, and on a second address health, metrics and administration, until SIGTERM or SIGINT.
    /// Then it refuses new work, writes and answers what waits, and ends with 0, within shutdown.grace; a second
    /// signal ends it at once. What it had acknowledged is there at the next start, also after a kill -9.
    Serve(ServeArgs),
    /// Bring the ledger's schema up to date
    ///
    /// The server does it at its start by itself; this is for who wants to see it done before. Makes the data
    /// directory where it is missing. Refused while a server runs on the directory.
    Migrate(MigrateArgs),
    /// Put a seating plan on sale
    ///
    /// Reads a plan in pretix's seating-plan JSON or in the short form, and makes an option (a dated performance) of a
    /// concert from it; a title that exists gets a further option. Through the server where one runs on the data
    /// directory, otherwise into the ledger itself. All or nothing.
    Import(ImportArgs),
    /// Prove from the events who owns which seat
    ///
    /// Reads every event, checks each shard's hash chain, derives every reservation and every seat's owner from the
    /// events alone, and compares that with the ledger's tables and with the memory of the running server, and the soft
    /// locks in that memory with the mirror. Changes nothing, and disturbs no sale. With no server running it says that
    /// memory and mirror were not compared.
    Audit(AuditArgs),
    /// Rebuild memory and mirror from the ledger: of an option, a shard, or the whole cluster
    ///
    /// Through the server that runs on the data directory, any node of the cluster, while it sells: clicks go on, holds
    /// and payments wait for the time of one read of the ledger. A shard is rebuilt with everything in it, soft locks
    /// stay where the ledger leaves room for them, and what was different is printed, option by option.
    Resync(ResyncArgs),
    /// See which node has which shard, and move shards
    ///
    /// A shard is the unit of ownership: all options of its concerts are sold by the node that has it. Through the server
    /// that runs on the data directory; any node of the cluster will do. What is moved is sold on meanwhile: buyers wait
    /// a moment.
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// See the nodes of the cluster, and empty one before it is stopped
    ///
    /// Through the server that runs on the data directory; any node of the cluster will do.
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// Set a concert's waiting room, and see how it is
    ///
    /// Through the server that runs on the data directory; any node of the cluster will do. What is set is in force, and
    /// durable, when the command ends.
    #[command(subcommand)]
    Gate(GateCommand),
    /// Check the draw of a presale
    ///
    /// From what is published and nothing else: no server, no data directory and no token is needed.
    #[command(subcommand)]
    Draw(DrawCommand),
    /// Say whether a configuration is valid, and what it changes
    ///
    /// Prints every setting that is not at its default, and who set it: the file, an environment variable, a flag.
    CheckConfig(CheckConfigArgs),
    /// Print a token for the API
    ///
    /// Signed with auth.secret or, where there is none, with the random key that the server keeps in the data
    /// directory. Goes to standard output, alone on its line.
    Token(TokenArgs),
}

// Where settings and data are. No doc comment: clap would show it for the command's own.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Read settings from this file (TOML; `cluster.toml` lists every key)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, instead of node.data [default: hotseat-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    pub(super) fn flags(&self) -> Flags {
        Flags { config: self.config.clone(), data: self.data.clone(), ..Flags::default() }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hotseat serve --demo
  hotseat serve --data /var/lib/hotseat --listen 0.0.0.0:8080
  HOTSEAT_LOG_FORMAT=json hotseat serve --config cluster.toml

Exit codes:
  0  stopped by a signal
  1  it could not start (directory in use, port taken, disk full, …) or could not go on
  2  the command line or the configuration is wrong")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    place: Place,
    /// The address of the public API, instead of server.listen; port 0 is any free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The address of health, metrics and administration, instead of server.ops_listen
    #[arg(long, value_name = "ADDR")]
    ops_listen: Option<SocketAddr>,
    /// Fill an empty data directory with three invented concerts, hand out tokens to whoever asks, let buyers
    /// confirm without paying, and print commands to try. Only on a loopback address. A data directory that is
    /// not empty is served as it is
    #[arg(long)]
    pub(super) demo: bool,
}

impl ServeArgs {
    pub(super) fn flags(&self) -> Flags {
        Flags { listen: self.listen, ops_listen: self.ops_listen, demo: self.demo, ..self.place.flags() }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat migrate --data /var/lib/hotseat")]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hotseat import hall.json --concert \"Winter Journey\" --at 2027-05-01T19:00:00+09:00
  hotseat import arena.json --concert \"Big Night\" --at 2027-06-05T20:00:00Z --own-shard --price Floor=9900

The short form:
  {\"sections\":[{\"code\":\"A\",\"rows\":[{\"label\":\"1\",\"from\":1,\"to\":20}]},{\"code\":\"PIT\",\"capacity\":500}]}

Exit codes:
  0  on sale
  1  the file is no plan (place and reason are said), or the ledger or the server refused it
  2  the command line or the configuration is wrong")]
pub(super) struct ImportArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// The seating plan
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The concert's title
    #[arg(long, value_name = "TITLE", value_parser = title)]
    pub(super) concert: String,
    /// When it starts, as RFC 3339 with an offset
    #[arg(long, value_name = "INSTANT")]
    pub(super) at: Timestamp,
    /// Put the concert into a shard that has no other: for one that everybody wants
    #[arg(long)]
    pub(super) own_shard: bool,
    /// ISO 4217
    #[arg(long, value_name = "CODE")]
    pub(super) currency: Option<String>,
    /// The price of a category in minor units (cents), e.g. Floor=9900; may be repeated
    #[arg(long, value_name = "CATEGORY=AMOUNT", value_parser = price)]
    pub(super) price: Vec<(String, i64)>,
}

fn title(text: &str) -> Result<String, String> {
    let title = text.trim();
    let characters = title.chars().count();
    if (1..=200).contains(&characters) && !title.chars().any(char::is_control) {
        Ok(title.to_owned())
    } else {
        Err("expected 1 to 200 characters, none of them a control character".to_owned())
    }
}

fn price(text: &str) -> Result<(String, i64), String> {
    let expected =
        || "expected CATEGORY=AMOUNT with a whole amount in minor units, such as Floor=9900".to_owned();
    let (category, amount) = text.rsplit_once('=').ok_or_else(expected)?;
    let amount: i64 = amount.parse().map_err(|_| expected())?;
    if category.is_empty() || amount < 0 { Err(expected()) } else { Ok((category.to_owned(), amount)) }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat audit --data /var/lib/hotseat

Exit codes:
  0  everything agrees
  1  something differs (every row is printed), or the ledger could not be read
  2  the command line or the configuration is wrong")]
pub(super) struct AuditArgs {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hotseat resync --option 7 --data /var/lib/hotseat
  hotseat resync --all --data /var/lib/hotseat

What cannot be rebuilt is named, and the others are.

Exit codes:
  0  done; differences, if there were any, are printed and gone
  1  something could not be rebuilt now: its memory is as it was; or no server runs on the data directory
  2  the command line or the configuration is wrong")]
pub(super) struct ResyncArgs {
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    pub(super) what: ResyncWhat,
}

// No doc comment: clap would show it for the command's own.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct ResyncWhat {
    /// Every shard of the cluster that has concerts, one after the other
    #[arg(long)]
    pub(super) all: bool,
    /// One shard, from 0, with all its options
    #[arg(long, value_name = "SHARD")]
    pub(super) shard: Option<u16>,
    /// The option whose shard is rebuilt
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) option: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ShardsCommand {
    /// Print every shard: who has it, and whether it serves
    List(ShardsListArgs),
    /// Move one shard to another node, and wait until it is there
    Move(ShardsMoveArgs),
    /// Spread the shards evenly over the nodes, with as few moves as that takes
    Rebalance(RebalanceArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat shards list --data /var/lib/hotseat

States:
  SERVING   it sells
  STARTING  its node restores it
  MOVING    it changes hands; commands wait a moment
  FREE      nobody has it

Exit codes:
  0  printed
  1  no server runs on the data directory, or it cannot say now
  2  the command line or the configuration is wrong")]
pub(super) struct ShardsListArgs {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat shards move 17 --to hotseat-2 --data /var/lib/hotseat

The move goes on where this command is interrupted.

Exit codes:
  0  the shard is there
  1  it is where it was, and why is said; or no server runs on the data directory
  2  the command line or the configuration is wrong")]
pub(super) struct ShardsMoveArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// The shard, from 0
    #[arg(value_name = "SHARD")]
    pub(super) shard: u16,
    /// The name of the node that shall have it
    #[arg(long, value_name = "NODE", value_parser = node)]
    pub(super) to: String,
}

fn node(name: &str) -> Result<String, String> {
    if text::is_node_name(name) { Ok(name.to_owned()) } else { Err(format!("expected {}", text::NODE_NAME)) }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hotseat shards rebalance --dry-run --data /var/lib/hotseat
  hotseat shards rebalance --at-once 2 --data /var/lib/hotseat

The moves go on where this command is interrupted.

Exit codes:
  0  spread evenly, or what would be moved is printed
  1  a shard is where it was, and why is said; or no server runs on the data directory
  2  the command line or the configuration is wrong")]
pub(super) struct RebalanceArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// Only print what would be moved
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How many shards may be on their way at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) at_once: u16,
}

#[derive(Debug, Subcommand)]
pub(super) enum NodesCommand {
    /// Print every node: whether it answers, what it has, whether it reaches the ledger
    List(NodesListArgs),
    /// Have a node give all its shards to the others, and wait until it has none
    Drain(DrainArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat nodes list --data /var/lib/hotseat

States:
  UP        it answers
  DRAINING  it gives its shards away and takes no more
  SILENT    it does not answer

Exit codes:
  0  printed
  1  no server runs on the data directory, or it cannot say now
  2  the command line or the configuration is wrong")]
pub(super) struct NodesListArgs {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat nodes drain hotseat-2 --data /var/lib/hotseat

The node takes no shards until its process is started again. The moves go on where this command is interrupted.

Exit codes:
  0  the node has no shards: it can be stopped
  1  it still has some, and why is said; or no server runs on the data directory
  2  the command line or the configuration is wrong")]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// The node's name
    #[arg(value_name = "NODE", value_parser = node)]
    pub(super) node: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum DrawCommand {
    /// Recompute a draw from its public record
    ///
    /// Checks that the seed is the one that was committed to, that the root is that of the entrants, that the beacon's
    /// round was due after the root was published, and that the order follows from them. With an entry, that it is in the
    /// list, and at which place it was drawn. Says on whom the fairness rests, `beacon` or `operator-trusted`, and what
    /// only others can confirm.
    Verify(DrawVerifyArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hotseat draw verify http://127.0.0.1:8080/api/v1/draws/7
  hotseat draw verify draw.json --entry mine.json
  curl -s https://tickets.example/api/v1/draws/7 | hotseat draw verify -

An entry is the answer of GET /api/v1/draws/ID/entry with the entrant's token.

Exit codes:
  0  it checks out
  1  it does not, and which field is said; it cannot be read; or nothing is drawn yet
  2  the command line is wrong")]
pub(super) struct DrawVerifyArgs {
    /// The record: a file, an http:// URL, or - for standard input
    #[arg(value_name = "FILE|URL|-")]
    pub(super) record: String,
    /// An entrant's own entry, in a file
    #[arg(long, value_name = "FILE")]
    pub(super) entry: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  HOTSEAT_HOLD_TTL=2m hotseat check-config --config cluster.toml

Exit codes:
  0  valid
  2  not valid: the source, the key, what was expected and what was found are said")]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  TOKEN=$(hotseat token --user 7 --role USER)
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/api/v1/reservations")]
pub(super) struct TokenArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// Whom it names, 1 to 9007199254740991
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..=engine::ids::PUBLIC_ID_MAX))]
    pub(super) user: u64,
    /// What it allows
    #[arg(long, value_enum, ignore_case = true)]
    pub(super) role: RoleArg,
    /// The user's tier, e.g. PREMIUM
    #[arg(long, value_name = "NAME")]
    pub(super) tier: Option<String>,
    /// How long it is good for
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = text::duration_argument)]
    pub(super) ttl: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(super) enum RoleArg {
    /// Buys for itself
    User,
    /// Confirms and refunds for everybody
    Payment,
    /// Runs the sale
    Admin,
    /// Runs the servers
    Ops,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::User => Self::User,
            RoleArg::Payment => Self::Payment,
            RoleArg::Admin => Self::Admin,
            RoleArg::Ops => Self::Ops,
        }
    }
}
