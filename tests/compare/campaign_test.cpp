#include "compare/campaign.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cli/failure.hpp"
#include "cli/temporary_folder.hpp"
#include "compare/page.hpp"
#include "compare/plot.hpp"
#include "compare/records.hpp"
#include "compare/summary.hpp"
#include "compare/table.hpp"

namespace {

using namespace tarn::compare;

bool contains(std::string const& text, std::string const& part) {
    return text.find(part) != std::string::npos;
}

row shell(std::string const& script) {
    row result;
    result.name = "script";
    result.group = "g";
    result.command = {"/bin/sh", "-c", script};
    return result;
}

/// Allocators that differ by a variable only: WHO=name.
std::vector<allocator> named(std::vector<std::string> const& names) {
    std::vector<allocator> result;
    result.reserve(names.size());
    for (std::string const& name : names) {
        result.push_back({name, "", {{"WHO", name}}, name + " 1"});
    }
    return result;
}

campaign_result run(campaign_plan plan) {
    tarn::cli::signal_watch const signals;
    return run_campaign(std::move(plan), signals, [](progress const&) {});
}

TEST(campaign, every_round_runs_every_row_on_every_allocator) {
    campaign_plan plan;
    plan.rows = {shell("echo 1"), shell("echo 2")};
    plan.rows[1].rounds = 2;
    plan.columns = named({"a", "b", "c"});
    plan.rounds = 3;
    campaign_result const result = run(plan);
    EXPECT_EQ(result.rounds, 3U);
    EXPECT_EQ(result.runs.size(), 3U * 3 + 2 * 3);
    std::set<std::vector<std::size_t>> orders;
    for (std::size_t begin = 0; begin < result.runs.size(); begin += 3) {
        std::vector<std::size_t> order;
        for (std::size_t place = 0; place < 3; ++place) {
            run_record const& one = result.runs[begin + place];
            EXPECT_EQ(one.place, place);
            EXPECT_EQ(one.error, "");
            EXPECT_GT(one.measured.wall_s, 0);
            EXPECT_GT(one.measured.peak_bytes, 100'000U);
            order.push_back(one.column);
        }
        orders.insert(order);
        std::sort(order.begin(), order.end());
        EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2}));
    }
    EXPECT_GT(orders.size(), 1U);
}

TEST(campaign, bad_ends_void_the_row_and_say_why) {
    struct bad_end {
        char const* script;
        char const* error;
    };

    for (bad_end const& one :
         {bad_end{"test $WHO = a || { echo gone wrong >&2; exit 3; }", "exit status 3: gone wrong"},
          bad_end{"test $WHO = a || kill -ABRT $$", "Aborted"},
          bad_end{"echo x; test $WHO = a || echo y", "line 2 is 'y'"},
          bad_end{"echo x; echo $WHO", "line 2 is 'b'"},
          bad_end{"test $WHO = b || echo x", "line 1 is 'missing'"}}) {
        campaign_plan plan;
        plan.rows = {shell(one.script)};
        plan.columns = named({"a", "b"});
        plan.rounds = 2;
        campaign_result const result = run(plan);
        for (run_record const& record : result.runs) {
            EXPECT_EQ(record.error.empty(), record.column == 0) << one.script << record.error;
            EXPECT_TRUE(record.column == 0 || contains(record.error, one.error)) << record.error;
        }
        summary const sums = summarize(result);
        EXPECT_TRUE(sums.means.empty());  // no row in which all ran
        EXPECT_TRUE(contains(format_tables(result, sums), one.error));
        EXPECT_TRUE(contains(format_page(result, sums), "Void rows"));
    }
}

TEST(campaign, any_output_may_be_allowed) {
    campaign_plan plan;
    plan.rows = {shell("echo $WHO")};
    plan.rows[0].output = output_rule::any;
    plan.columns = named({"a", "b"});
    for (run_record const& record : run(plan).runs) {
        EXPECT_EQ(record.error, "");
    }
}

TEST(campaign, a_program_that_can_t_be_started_is_named) {
    campaign_plan plan;
    plan.rows = {shell(""), shell("true")};
    plan.rows[0].command = {"/nonexistent/program"};
    plan.columns = named({"a"});
    plan.rounds = 2;
    std::string const error = "cannot run /nonexistent/program: No such file or directory";
    EXPECT_EQ(run(plan).runs[0].error, error);
    plan.rows.pop_back();
    EXPECT_THROW(run(plan), tarn::cli::failure);  // there is nothing else to do
}

TEST(campaign, an_input_that_can_t_be_read_again_and_again_is_refused) {
    campaign_plan plan;
    plan.rows = {shell("cat")};
    plan.columns = named({"a"});
    for (char const* const input : {"/dev/zero", "/nonexistent", "/"}) {
        plan.rows[0].input = input;
        EXPECT_THROW(run(plan), tarn::cli::failure) << input;
    }
}

TEST(campaign, what_was_void_once_is_not_tried_again) {
    campaign_plan plan;
    plan.rows = {shell("echo >> {dir}/../$WHO-$MARK; test $WHO = a")};
    plan.rows[0].uses_folder = true;
    plan.columns = named({"a", "b"});
    std::string const mark = "tarn-test-" + std::to_string(::getpid());
    for (allocator& one : plan.columns) {
        one.environment.emplace_back("MARK", mark);
    }
    plan.rounds = 4;
    tarn::cli::temporary_folder const beside;
    campaign_result const result = run(plan);
    auto const folder = std::filesystem::path{beside.path()}.parent_path();
    EXPECT_EQ(result.runs.size(), 8U);
    EXPECT_EQ(std::filesystem::file_size(folder / ("a-" + mark)), 5U);  // with the warm-up
    EXPECT_EQ(std::filesystem::file_size(folder / ("b-" + mark)), 1U);
    std::filesystem::remove(folder / ("a-" + mark));
    std::filesystem::remove(folder / ("b-" + mark));
}

TEST(campaign, what_a_program_leaves_running_is_ended_and_voids_the_run) {
    campaign_plan plan;
    // A daemon: a session of its own, its parent gone.
    plan.rows = {
        shell("setsid sh -c 'echo $$ > {dir}/pid; exec cat /dev/zero' > /dev/null & "
              "until test -s {dir}/pid; do :; done; cat {dir}/pid >&2; kill -9 $$")};
    plan.rows[0].uses_folder = true;
    plan.rows[0].rounds = 1;
    plan.columns = named({"a"});
    std::string const error = run(plan).runs[0].error;
    ASSERT_TRUE(contains(error, "Killed: ")) << error;
    EXPECT_NE(::kill(std::stoi(error.substr(8)), 0), 0);
    plan.rows[0].command[2] += " -0";
    plan.rows[0].command[2].replace(plan.rows[0].command[2].find("kill -9 $$ -0"), 13, "exit 0");
    EXPECT_EQ(run(plan).runs[0].error, "left a process running, which was not measured");
}

TEST(campaign, a_program_that_stops_or_wants_the_terminal_is_told_apart) {
    campaign_plan plan;
    plan.rows = {shell("kill -STOP $$")};
    plan.rows[0].rounds = 1;
    plan.rows[0].time_limit_s = 1;
    plan.columns = named({"a"});
    EXPECT_TRUE(contains(run(plan).runs[0].error, "time limit, 1 s; Stopped"));
    plan.rows[0].command[2] = "kill -TTIN $$";
    plan.rows[0].time_limit_s = 100;
    EXPECT_TRUE(contains(run(plan).runs[0].error, "wants the terminal"));
}

TEST(campaign, endless_output_ends_the_run) {
    campaign_plan plan;
    plan.rows = {shell("exec cat /dev/zero")};
    plan.rows[0].rounds = 1;
    plan.columns = named({"a"});
    EXPECT_EQ(run(plan).runs[0].error, "printed more than 64 MiB");
}

TEST(campaign, messages_are_printable) {
    campaign_plan plan;
    plan.rows = {shell("printf 'a\\033[31mb\\351\\001' >&2; exit 1")};
    plan.rows[0].rounds = 1;
    plan.columns = named({"a"});
    EXPECT_EQ(run(plan).runs[0].error, "exit status 1: a?[31mb??");
}

TEST(campaign, a_library_that_was_not_loaded_voids_the_run) {
    campaign_plan plan;
    plan.rows = {shell("unset LD_PRELOAD; exec /bin/true")};
    plan.columns = named({"a"});
    plan.columns[0].library = std::filesystem::canonical("/bin/true").native();
    plan.rounds = 1;
    EXPECT_EQ(run(plan).runs[0].error, "");  // it is mapped, though as the program
    plan.columns[0].library = std::filesystem::canonical("/bin/cat").native();
    EXPECT_TRUE(contains(run(plan).runs[0].error, "ran without"));
}

TEST(campaign, a_hung_run_is_ended_with_all_that_it_started) {
    campaign_plan plan;
    plan.rows = {shell("cat /dev/zero > /dev/null & cat /dev/zero > /dev/null; wait")};
    plan.rows[0].rounds = 1;
    plan.rows[0].time_limit_s = 1;
    plan.columns = named({"a"});
    campaign_result const result = run(plan);
    EXPECT_EQ(result.runs[0].error, "not finished at its time limit, 1 s");
}

TEST(campaign, a_client_runs_beside_and_must_succeed) {
    campaign_plan plan;
    plan.rows = {shell("mkfifo {dir}/f; test $(cat {dir}/f) = hello")};
    plan.rows[0].uses_folder = true;
    plan.rows[0].client = {"/bin/sh", "-c",
                           "until test -p {dir}/f; do :; done; echo hello > {dir}/f; test -z $WHO"};
    plan.columns = named({"a"});
    plan.rounds = 1;
    EXPECT_EQ(run(plan).runs[0].error, "");
    plan.rows[0].client[2] += "; echo no luck; exit 4";
    EXPECT_EQ(run(plan).runs[0].error, "its client failed: exit status 4: no luck");
}

TEST(campaign, input_and_folder_are_the_row_s) {
    campaign_plan plan;
    plan.rows = {shell("cat; test -d {dir} && test -z \"$(ls {dir})\" && echo > {dir}/file")};
    plan.rows[0].input = "/proc/version";
    plan.rows[0].uses_folder = true;
    plan.columns = named({"a", "b"});
    plan.rounds = 2;
    for (run_record const& record : run(plan).runs) {
        EXPECT_EQ(record.error, "");
    }
}

TEST(campaign, without_input_a_program_reads_nothing) {
    campaign_plan plan;
    plan.rows = {shell("test -z \"$(cat)\"")};
    plan.columns = named({"a"});
    plan.rounds = 1;
    EXPECT_EQ(run(plan).runs[0].error, "");
}

TEST(campaign, memory_is_the_program_s_own_and_its_children_s) {
    campaign_plan plan;
    // dd's buffer is what it is asked for.
    std::string const dd = "dd if=/dev/zero of=/dev/null bs=64M count=1 status=none";
    plan.rows = {shell("exec " + dd), shell(dd + "; true")};
    plan.rows[1].name = "child";
    plan.columns = named({"a"});
    plan.rounds = 1;
    campaign_result const result = run(plan);
    ASSERT_EQ(result.runs.size(), 2U);
    // However large tarn itself has been.
    {
        std::vector<char> const large(std::size_t{200} << 20, 'x');
        EXPECT_EQ(large[1], 'x');
    }
    plan.rows[1].command[2] = "dd if=/dev/zero of=/dev/null bs=8M count=1 status=none; true";
    EXPECT_GT(run(plan).runs[1].measured.peak_bytes, 8'000'000U);
    for (run_record const& record : result.runs) {
        EXPECT_GT(record.measured.peak_bytes, 60'000'000U);
        EXPECT_GT(record.measured.faults, 100U);
    }
    ASSERT_TRUE(result.runs[0].measured.final_bytes.has_value()) << "may this process trace?";
    EXPECT_LE(*result.runs[0].measured.final_bytes, result.runs[0].measured.peak_bytes);
    EXPECT_FALSE(result.runs[1].measured.final_bytes.has_value());
}

TEST(campaign, no_round_begins_that_would_not_end_in_time) {
    campaign_plan plan;
    plan.rows = {shell("true")};
    plan.columns = named({"a"});
    plan.rounds = 1000;
    plan.time_limit = std::chrono::seconds{0};
    campaign_result const result = run(plan);
    EXPECT_EQ(result.rounds, 1U);
    EXPECT_EQ(result.notes.at(0), "the time limit left room for 1 of 1000 rounds");
}

TEST(campaign, a_signal_ends_it_with_what_is_finished) {
    campaign_plan plan;
    plan.rows = {shell("test $COUNT -lt 9 || kill -TERM $PPID")};
    plan.columns = named({"a"});
    plan.columns[0].environment.emplace_back("COUNT", "0");
    plan.rounds = 3;
    EXPECT_EQ(run(plan).rounds, 3U);
    plan.columns[0].environment.back().second = "9";
    plan.rows[0].command[2] += "; cat /dev/zero > /dev/null";
    campaign_result const result = run(plan);
    EXPECT_EQ(result.rounds, 0U);
    EXPECT_EQ(result.signal, SIGTERM);
    EXPECT_EQ(result.notes.at(0), "interrupted in round 1 of 3");
}

TEST(figures, lines_are_name_value_unit) {
    auto const figures = parse_figures("a 1.5 ns\nb 20 ns\n", "ns");
    EXPECT_EQ(figures.size(), 2U);
    EXPECT_EQ(figures[0].name, "a");
    EXPECT_DOUBLE_EQ(figures[0].value, 1.5);
    for (char const* const bad :
         {"", "a 1.5\n", "a x ns\n", "a 1 s\n", "a 1 ns more\n", "a 0 ns\n", "a 1 ns\na 1 ns\n"}) {
        EXPECT_THROW(parse_figures(bad, "ns"), tarn::cli::failure) << bad;
    }
}

TEST(figures, each_is_a_row_of_its_own) {
    campaign_plan plan;
    plan.rows = {shell("test $WHO = a && echo 'x 1 ns' || echo 'x 2 ns'; echo 'y 3 ns'")};
    plan.rows[0].figures = "ns";
    plan.rows[0].output = output_rule::any;
    plan.columns = named({"a", "b"});
    plan.rounds = 2;
    summary const sums = summarize(run(plan));
    ASSERT_EQ(sums.comparisons.size(), 2U);
    EXPECT_EQ(sums.comparisons[0].row, "x");
    EXPECT_NEAR(sums.comparisons[0].cells[1].to_best.ratio, 2, 1e-9);
    ASSERT_EQ(sums.means.size(), 1U);
    EXPECT_NEAR(sums.means[0].of[1].ratio, std::sqrt(2.0), 1e-9);
}

/// A campaign that never ran: allocator b takes twice a's time and half its memory.
campaign_result made_up(std::size_t rounds) {
    campaign_result result;
    result.plan.rows = {shell(""), shell("")};
    result.plan.rows[0].name = "first";
    result.plan.rows[1].name = "second, <odd> \"name\"";
    result.plan.columns = named({"a", "b", "a"});
    result.plan.twin = 0;
    result.plan.rounds = rounds;
    result.rounds = rounds;
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t row = 0; row < 2; ++row) {
            for (std::size_t column = 0; column < 3; ++column) {
                run_record run;
                run.round = round;
                run.row = row;
                run.column = column;
                double const noise = 1 + 0.01 * static_cast<double>((round * 3 + column) % 4);
                run.measured.wall_s = noise * (column == 1 ? 2 : 1);
                run.measured.cpu_s = run.measured.wall_s;
                run.measured.peak_bytes = column == 1 ? 1'000'000 : 2'000'000;
                run.measured.faults = 10;
                result.runs.push_back(run);
            }
        }
    }
    return result;
}

TEST(summary, ratios_means_and_a_a) {
    summary const sums = summarize(made_up(8));
    EXPECT_EQ(sums.columns, (std::vector<std::string>{"a", "b"}));
    auto const rows = of_quantity(sums, quantity::wall);
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0]->best, 0U);
    EXPECT_NEAR(rows[0]->cells[1].to_best.ratio, 2, 0.05);
    EXPECT_FALSE(rows[0]->cells[1].to_best.is_tie());
    ASSERT_TRUE(rows[0]->aa.has_value());
    EXPECT_TRUE(rows[0]->aa->is_tie());
    mean const* const time = find_mean(sums, quantity::wall, "");
    ASSERT_NE(time, nullptr);
    EXPECT_EQ(time->rows, 2U);
    EXPECT_NEAR(time->of[1].ratio, 2, 0.05);
    EXPECT_NEAR(find_mean(sums, quantity::peak, "")->of[0].ratio, 2, 1e-9);
    // Where nothing was traced, nothing is said of the end.
    EXPECT_EQ(find_mean(sums, quantity::final, ""), nullptr);
    EXPECT_EQ(of_quantity(sums, quantity::final)[0]->cells[0].error, not_measured);
    tie_count const ties = count_ties(rows);
    EXPECT_EQ(ties.ties, 2U);
    EXPECT_EQ(ties.rows, 2U);
}

TEST(summary, a_void_run_takes_its_row_out_of_the_means_alone) {
    campaign_result result = made_up(8);
    result.runs[1].error = "broken";
    summary const sums = summarize(result);
    auto const rows = of_quantity(sums, quantity::wall);
    EXPECT_EQ(rows[0]->cells[1].error, "broken");
    EXPECT_EQ(rows[0]->cells[0].error, "");
    EXPECT_EQ(find_mean(sums, quantity::wall, "")->rows, 1U);
}

TEST(summary, no_run_at_all_is_no_row) {
    campaign_result result = made_up(2);
    result.runs.clear();
    EXPECT_TRUE(summarize(result).comparisons.empty());
}

TEST(records, fields_that_need_it_are_quoted) {
    campaign_result const result = made_up(1);
    std::string const runs = format_runs_csv(result);
    EXPECT_TRUE(contains(runs, "1,\"second, <odd> \"\"name\"\"\",a again,"));
    std::string const rows = format_rows_csv(summarize(result));
    EXPECT_TRUE(contains(rows, "g,first,wall,s,1,a,1,1.0000,,best,\n")) << rows;
    EXPECT_TRUE(contains(rows, "g,first,wall,s,1,b,2.02,2.0200,,unknown,\n")) << rows;
}

TEST(records, json_has_what_the_tables_have) {
    campaign_result const result = made_up(8);
    std::string const json = format_json(result, summarize(result));
    for (char const* const part :
         {"\"comparisons\"", "\"means\"", "\"aa\"", "\"machine\"", "a 1"}) {
        EXPECT_TRUE(contains(json, part)) << part;
    }
}

TEST(page, names_are_escaped_and_nothing_comes_from_elsewhere) {
    campaign_result const result = made_up(8);
    std::string const page = format_page(result, summarize(result));
    EXPECT_TRUE(contains(page, "second, &lt;odd&gt; &quot;name&quot;"));
    EXPECT_FALSE(contains(page, "<odd>"));
    EXPECT_FALSE(contains(page, "src="));
    EXPECT_FALSE(contains(page, "href="));
    EXPECT_FALSE(contains(page, "<script"));
}

TEST(plot, has_a_mark_for_each_cell) {
    campaign_result const result = made_up(8);
    summary const sums = summarize(result);
    std::string const plot = plot_ratios(sums, quantity::wall, {});
    EXPECT_TRUE(contains(plot, "<title>b first: 2."));
    EXPECT_TRUE(contains(plot, "<title>a second, &lt;odd&gt;"));
    EXPECT_TRUE(contains(plot_overview(sums), "<title>b: time 2."));
    EXPECT_EQ(plot_ratios(sums, quantity::figure, {}), "");
}

TEST(table, values_keep_three_digits) {
    EXPECT_EQ(format_value(0.0412, "s"), "0.041 s");
    EXPECT_EQ(format_value(3.214, "ns"), "3.21 ns");
    EXPECT_EQ(format_value(46.94, "instructions"), "46.9 ins");
    EXPECT_EQ(format_value(1234567, ""), "1,234,567");
    EXPECT_EQ(format_value(1048576, "B"), "1.0 MiB");
    EXPECT_EQ(format_duration(std::chrono::seconds{65}), "1:05");
    EXPECT_EQ(format_duration(std::chrono::seconds{3723}), "1:02:03");
}

}  // namespace
