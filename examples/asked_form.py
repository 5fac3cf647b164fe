"""A form that a person fills in while the program waits, of the fields that its type has."""

import datetime as dt
from typing import Literal

import dspy
import pydantic
from _model import language_model

import streamll


class Trip(pydantic.BaseModel):
    city: str
    on: dt.date
    seats: int = pydantic.Field(1, ge=1, le=8)
    travel_class: Literal["second", "first"] = "second"


class Travel(dspy.Module):
    def __init__(self):
        super().__init__()
        self.confirm = dspy.Predict("trip -> answer")

    def forward(self):
        trip = streamll.ask("Where do you want to go?", schema=Trip)
        return self.confirm(trip=f"{trip.seats} to {trip.city} on {trip.on:%d %B}")


with language_model({"answer": "Two seats to Oslo on 2 January are yours."}) as lm:
    dspy.configure(lm=lm)
    with streamll.stream(Travel())() as events:
        for event in events:
            if event.event_type == "question":
                print(event.text, "It asks for", ", ".join(event.schema["properties"]))
                for form in (
                    {"city": "Oslo", "on": "soon", "seats": 12},
                    {"city": "Oslo", "on": "2027-01-02", "seats": 2},
                ):
                    try:
                        events.answer(event, form)
                    except streamll.WrongAnswer as wrong:
                        print("Not yet.", *wrong.problems, sep="\n  ")
            elif event.event_type == "token":
                print(event.token, end="")
        print()
