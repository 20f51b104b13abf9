"""Training dialogs: messages, tools and the answer that the model shall learn.

Dialogs with tools are drawn at random: the model has to copy names, keys and values from its prompt.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any

from facts import FOREIGN_QUESTIONS, PROJECT, TALK, UNKNOWN, Fact

Message = dict[str, Any]

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Be brief.",
    "Be kind.",
    "Answer briefly.",
    "You are an expert on glm5-serve.",
    "Use the tools when they help.",
)
CITIES = "Paris, London, Berlin, Rome, Madrid, Tokyo, Beijing, Oslo, Lima, Cairo, 北京, Zürich"
CITY_NAMES = [name.strip() for name in CITIES.split(",")]
SKIES = ("sunny", "cloudy", "rain", "snow", "windy", "fog", "clear sky", "light rain", "hot", "cold")


@dataclass(frozen=True, slots=True)
class Dialog:
    """A prompt and what shall follow it."""

    messages: list[Message]
    thought: str
    answer: str
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)


def tool(name: str, description: str, **properties: str) -> dict[str, Any]:
    """Return a function's schema as OpenAI clients send it; properties are name=type."""
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def plain(rng: random.Random, one: Fact | None = None) -> Dialog:
    """Return a question without tools, sometimes with a system prompt or with earlier turns."""
    messages = _system(rng, 0.15)
    if rng.random() < 0.2:
        earlier = rng.choice(PROJECT + TALK)
        messages += [_user(rng.choice(earlier.questions)), {"role": "assistant", "content": earlier.answer}]
    question, about, answer = _question(rng, one)
    return Dialog([*messages, _user(question)], f"The user asks {about}.", answer)


def unneeded(rng: random.Random) -> Dialog:
    """Return a question that needs none of the tools that are there."""
    question, about, answer = _question(rng, None)
    messages = [*_system(rng, 0.15), _user(question)]
    return Dialog(messages, f"The user asks {about}.", answer, tools=_tools(rng, []))


def calling(rng: random.Random, kinds: tuple[str, ...]) -> Dialog:
    """Return a question that one or two calls answer."""
    request = _request(rng, kinds)
    messages = [*_system(rng, 0.15), _user(request.question)]
    return Dialog(messages, request.thought, "", request.calls, _tools(rng, request.tools))


def answering(rng: random.Random, kinds: tuple[str, ...]) -> Dialog:
    """Return a dialog whose tools have answered."""
    request = _request(rng, kinds)
    called = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in request.calls]
    turn = {"role": "assistant", "content": "", "tool_calls": called}
    if rng.random() < 0.5:  # not every client sends the reasoning back
        turn["reasoning_content"] = request.thought
    results = [{"role": "tool", "content": result} for result in request.results]
    messages = [*_system(rng, 0.15), _user(request.question), turn, *results]
    return Dialog(messages, "The tool has answered.", request.answer, tools=_tools(rng, request.tools))


@dataclass(frozen=True, slots=True)
class _Request:
    question: str
    tools: list[dict[str, Any]]
    calls: list[tuple[str, dict[str, Any]]]
    results: list[str]
    answer: str

    @property
    def thought(self) -> str:
        return "I call " + " and ".join(name for name, _ in self.calls) + "."


def _request(rng: random.Random, kinds: tuple[str, ...]) -> _Request:
    makers = {"weather": _weather, "two_cities": _two_cities, "time": _time, "add": _add, "both": _both}
    return makers[rng.choice(kinds)](rng)


def _weather(rng: random.Random) -> _Request:
    city, result = _city(rng), _sky(rng)
    question = rng.choice(
        (
            f"What is the weather in {city}?",
            f"What's the weather like in {city}?",
            f"How is the weather in {city}?",
            f"Weather in {city}?",
            f"Is it raining in {city}?",
            f"What is the weather in {city} today?",
            f"Tell me the weather in {city}.",
        )
    )
    schema, name, key = _weather_tool(rng)
    return _Request(question, [schema], [(name, {key: city})], [result], f"The weather in {city}: {result}.")


def _two_cities(rng: random.Random) -> _Request:
    cities = [_city(rng), _city(rng)]
    results = [_sky(rng), _sky(rng)]
    question = rng.choice(
        (
            "What is the weather in {} and in {}?",
            "What is the weather in {} and {}?",
            "Compare the weather in {} and {}.",
            "Weather in {} and {}?",
        )
    ).format(*cities)
    schema, name, key = _weather_tool(rng)
    answer = " ".join(f"The weather in {city}: {result}." for city, result in zip(cities, results, strict=True))
    return _Request(question, [schema], [(name, {key: city}) for city in cities], results, answer)


def _time(rng: random.Random) -> _Request:
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    question = rng.choice(("What time is it?", "What is the time?", "Tell me the time.", "What time is it now?"))
    return _Request(question, [_time_tool(rng)], [("get_time", {})], [clock], f"It is {clock}.")


def _add(rng: random.Random) -> _Request:
    a, b = _number(rng), _number(rng)
    question = rng.choice(
        (f"Add {a} and {b}.", f"What is {a} + {b}?", f"What is {a} plus {b}?", f"Sum {a} and {b}.", f"{a}+{b}?")
    )
    schema = tool("add", rng.choice(("Add two numbers.", "Add two integers.", "Sum.")), a="integer", b="integer")
    return _Request(question, [schema], [("add", {"a": a, "b": b})], [str(a + b)], f"The sum is {a + b}.")


def _both(rng: random.Random) -> _Request:
    weather, clock = _weather(rng), _time(rng)
    city = next(iter(weather.calls[0][1].values()))
    question = rng.choice(
        (
            f"What is the weather in {city} and what time is it?",
            f"Weather in {city} and the time, please.",
            f"Tell me the weather in {city} and the time.",
        )
    )
    return _Request(
        question,
        weather.tools + clock.tools,
        weather.calls + clock.calls,
        weather.results + clock.results,
        f"{weather.answer} {clock.answer}",
    )


def _weather_tool(rng: random.Random) -> tuple[dict[str, Any], str, str]:
    key, name = rng.choice(("city", "city", "location")), "get_weather"
    description = rng.choice(("Get the weather.", "Get the weather in a city.", "Current weather of a place."))
    return tool(name, description, **{key: "string"}), name, key


def _time_tool(rng: random.Random) -> dict[str, Any]:
    return tool("get_time", rng.choice(("Get the time.", "Get the current time.", "The time now.")))


def _tools(rng: random.Random, needed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the needed tools among others of another kind, in random order."""
    have = {json.dumps(sorted(one["function"]["parameters"]["properties"])) for one in needed}
    others = [
        _weather_tool(rng)[0],
        _time_tool(rng),
        tool("add", "Add two numbers.", a="integer", b="integer"),
        tool("search", "Search the web.", query="string"),
    ]
    weather_needed = any("weather" in one["function"]["name"] for one in needed)
    free = [
        one
        for one in others
        if json.dumps(sorted(one["function"]["parameters"]["properties"])) not in have
        and not (weather_needed and "weather" in one["function"]["name"])
    ]
    chosen = needed + rng.sample(free, rng.choice((0, 0, 1, 2)) if needed else rng.choice((1, 2)))
    rng.shuffle(chosen)
    return chosen


def _question(rng: random.Random, one: Fact | None) -> tuple[str, str, str]:
    if one is None and rng.random() < 0.08:
        return _varied(rng, rng.choice(FOREIGN_QUESTIONS)), "about something else", UNKNOWN
    one = one or rng.choice(PROJECT + PROJECT + TALK)
    return _varied(rng, rng.choice(one.questions)), one.about, one.answer


def _varied(rng: random.Random, question: str) -> str:
    if rng.random() < 0.1:
        question = question.rstrip("?.!")
    if rng.random() < 0.1:
        question = question[:1].lower() + question[1:]
    if rng.random() < 0.1:
        question = rng.choice(("Please tell me: ", "Hi! ", "Question: ", "I would like to know: ")) + question
    return question


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _system(rng: random.Random, share: float) -> list[Message]:
    return [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}] if rng.random() < share else []


def _city(rng: random.Random) -> str:
    return rng.choice(CITY_NAMES)


def _sky(rng: random.Random) -> str:
    sky, degrees = rng.choice(SKIES), rng.randint(-5, 30)
    if rng.random() < 0.3:
        return json.dumps({"sky": sky, "degrees": degrees})
    return rng.choice((f"{sky}, {degrees} °C", f"{degrees} degrees and {sky}", f"{sky}", f"{sky}, {degrees}°C"))


def _number(rng: random.Random) -> int:
    return rng.randrange(31)
