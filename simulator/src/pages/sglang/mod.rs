//! SGLang's families: 0.4.10.post2 and 0.5.23. Its pages always have the multiprocess form.
//!
//! Scheduler families carry rank labels; ranks of tensor parallelism above 0 show only what is created in advance, at
//! zero. With data parallelism each data-parallel engine has its own `tp_rank`, as with data-parallel attention.

mod families;

use self::families::{NEW, OLD};
use crate::engine::{Engine, View};
use crate::pages::family::{Child, Form, Printer, Scope};
use crate::spec::Release;

pub(crate) fn render(engine: &Engine) -> String {
    let spec = engine.spec();
    let new = spec.release == Release::Sglang0_5_23;
    let mut printer = Printer::new(Form::Multiprocess, engine.started_unix(), 0);
    let model = ("model_name", spec.served_model.clone());
    let unified = ("engine_type", "unified".to_owned());
    let scheduler = |data_rank: usize, tensor_rank: usize| {
        let mut labels = vec![
            model.clone(),
            unified.clone(),
            ("pp_rank", "0".to_owned()),
            ("tp_rank", tensor_rank.to_string()),
        ];
        if new {
            labels.push(("moe_ep_rank", "0".to_owned()));
        }
        if spec.data_parallel > 1 {
            labels.push(("dp_rank", data_rank.to_string()));
        }
        labels
    };
    let frontend = if new { vec![model.clone(), unified.clone()] } else { vec![model.clone()] };

    let tensor_rank_of = |rank: usize| if spec.data_parallel > 1 { rank } else { 0 };
    let of_ranks = |extra: fn(usize) -> Option<(&'static str, String)>| -> Vec<Child<'_>> {
        let ranks = engine.ranks().iter().enumerate();
        ranks
            .map(|(index, rank)| {
                let mut labels = scheduler(index, tensor_rank_of(index));
                labels.extend(extra(index));
                Child { labels, view: View::rank(spec, rank) }
            })
            .collect()
    };
    let by_rank = of_ranks(|_| None);
    let by_pid = of_ranks(|rank| Some(("pid", (14_005 + rank).to_string())));
    let idle_ranks = if spec.data_parallel > 1 { 1 } else { spec.tensor_parallel.max(1) as usize };
    let mut by_tensor_rank: Vec<Child<'_>> = (1..idle_ranks)
        .map(|rank| Child { labels: scheduler(0, rank), view: View::idle(spec) })
        .collect();
    by_tensor_rank.extend(of_ranks(|_| None));
    let process = [Child { labels: frontend.clone(), view: View::requests(engine, None) }];
    let streaming = ["false", "true"].map(|text| {
        let labels = [&frontend[..], &[("is_streaming", text.to_owned())]].concat();
        Child { labels, view: View::requests(engine, Some(usize::from(text == "true"))) }
    });
    let bare = [Child { labels: Vec::new(), view: View::idle(spec) }];

    for family in if new { NEW } else { OLD } {
        let children = match family.scope {
            Scope::Rank => &by_rank[..],
            Scope::TensorRank => &by_tensor_rank,
            Scope::RankPid => &by_pid,
            Scope::Process => &process,
            Scope::Streaming => &streaming,
            Scope::Bare => &bare,
        };
        if !family.speculative || spec.speculation.is_some() {
            printer.print(family, children);
        }
        if new && family.name == "sglang:routing_keys_active" {
            http(&mut printer, &process[0].view);
        }
    }
    printer.page.finish()
}

/// HTTP families, whose labels nothing else has.
fn http(printer: &mut Printer, view: &View<'_>) {
    let chat = [("endpoint", "/v1/chat/completions"), ("method", "POST")];
    let metrics = [("endpoint", "/metrics"), ("method", "GET")];
    let answered = view.truth.finished_total() as f64;
    let open = view.truth.arrived.saturating_sub(view.truth.finished_total()) as f64;
    let page = &mut printer.page;
    page.family("sglang:http_requests_active", "gauge", "Requests being answered.");
    page.sample("sglang:http_requests_active", "", &chat, open);
    page.sample("sglang:http_requests_active", "", &metrics, 1.0);
    page.family("sglang:http_requests_total", "counter", "Requests by endpoint.");
    page.sample("sglang:http_requests_total", "", &chat, answered + open);
    page.sample("sglang:http_requests_total", "", &metrics, 1.0);
    page.family("sglang:http_responses_total", "counter", "Responses by endpoint and status.");
    let status = [chat[0], chat[1], ("status_code", "200")];
    page.sample("sglang:http_responses_total", "", &status, answered);
}
